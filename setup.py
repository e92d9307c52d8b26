"""The C++ of the generation kernel and of the training step, built where a compiler and x86-64 Linux are.

All else is in pyproject.toml. One library per instruction set from the same source, and samplernn/kernels.py and
samplernn/generate/native_library.py pick one at run time. They are plain C libraries without Python's headers, and
optional: without them portable PyTorch serves.
"""

import platform
import sys
from pathlib import Path

from setuptools import Extension, setup

AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
VNNI = [*AVX512, "-mavx512vnni", "-mavx512bf16"]
AMX = [*VNNI, "-mamx-tile", "-mamx-int8", "-mamx-bf16"]
HEADERS = sorted(str(header) for header in Path("samplernn/native").glob("*.h"))
GENERATE = [
    "-O3",
    "-std=c++17",
    "-pthread",
    "-ffp-contract=off",  # a product and a sum are one rounding only where the source says fma
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wno-maybe-uninitialized",  # gcc 12 finds them in its own headers
    "-Wno-uninitialized",
]
# torch's own libgomp has the same name as the one that is linked here, and is taken: one pool of threads.
TRAIN = ["-O3", "-std=c++17", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]


def library(name: str, sources: list[str], flags: list[str], link: str) -> Extension:
    """One build, left out with a warning when it can't be compiled."""
    return Extension(
        f"samplernn.native.{name}",
        sources=[f"samplernn/native/{source}" for source in sources],
        depends=HEADERS,
        extra_compile_args=flags,
        extra_link_args=[link],
        language="c++",
        optional=True,
    )


def generation(name: str, flags: list[str]) -> Extension:
    """The generation kernel."""
    return library(name, ["generate.cpp", "peak.cpp"], [*GENERATE, *flags], "-pthread")


def training(name: str, flags: list[str]) -> Extension:
    """The passes of the training step."""
    return library(f"train_{name}", ["sample_tier.cpp", "recurrent.cpp"], [*TRAIN, *flags], "-fopenmp")


X86 = sys.platform == "linux" and platform.machine().lower() in ("x86_64", "amd64")
LIBRARIES = [
    generation("avx2", AVX2),
    generation("avx512", VNNI),
    generation("amx", AMX),
    training("avx2", AVX2),
    training("avx512", [*AVX512, "-mprefer-vector-width=512"]),
]
setup(ext_modules=LIBRARIES if X86 else [])
