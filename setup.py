"""The C++ passes of the training step, built where a compiler and x86-64 Linux are; all else is in pyproject.toml.

One library per instruction set from the same source; samplernn/kernels.py picks one at run time. They are plain C
libraries without Python's headers, and optional: without them torch's own operations serve.
"""

import platform
import sys

from setuptools import Extension, setup

AVX2 = ["-mavx2", "-mfma"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mprefer-vector-width=512"]
TRAIN = ["-O3", "-std=c++17", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]


def training(name: str, flags: list[str]) -> Extension:
    """One build of the training passes, left out with a warning when it can't be compiled."""
    return Extension(
        f"samplernn.native.train_{name}",
        sources=["samplernn/native/sample_tier.cpp", "samplernn/native/recurrent.cpp"],
        depends=["samplernn/native/vectors.h"],
        extra_compile_args=[*TRAIN, *flags],
        extra_link_args=[
            "-fopenmp"
        ],  # torch's own libgomp has the same name, and is taken: one pool of threads
        language="c++",
        optional=True,
    )


X86 = sys.platform == "linux" and platform.machine().lower() in ("x86_64", "amd64")
setup(ext_modules=[training("avx2", AVX2), training("avx512", [*AVX2, *AVX512])] if X86 else [])
