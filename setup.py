"""The native generation kernel, built where a C++ compiler and x86-64 are there; all else is in pyproject.toml.

One library per instruction set from the same source; samplernn/generate/native_library.py picks one at run time. They
are plain C libraries without Python's headers, and optional: without them the portable backend serves.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup

COMMON = [
    "-O3",
    "-std=c++17",
    "-pthread",
    "-ffp-contract=off",  # a product and a sum are one rounding only where the source says fma
    "-fno-math-errno",
    "-fvisibility=hidden",
    "-Wno-maybe-uninitialized",  # gcc 12 finds them in its own headers
    "-Wno-uninitialized",
]
AVX2 = ["-mavx2", "-mfma"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vnni", "-mavx512bf16"]
AMX = [*AVX512, "-mamx-tile", "-mamx-int8", "-mamx-bf16"]


def library(name: str, flags: list[str]) -> Extension:
    """One build of the kernel, left out with a warning when it can't be compiled."""
    return Extension(
        f"samplernn.native.{name}",
        sources=["samplernn/native/generate.cpp", "samplernn/native/peak.cpp"],
        depends=sorted(str(header) for header in Path("samplernn/native").glob("*.h")),
        extra_compile_args=[*COMMON, *flags],
        extra_link_args=["-pthread"],
        language="c++",
        optional=True,
    )


setup(
    ext_modules=[library("avx2", AVX2), library("avx512", AVX512), library("amx", AMX)]
    if platform.machine().lower() in ("x86_64", "amd64")
    else []
)
