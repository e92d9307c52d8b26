"""The native kernel's C interface: which build of it this machine can run, and its structs as ctypes.

The structs mirror samplernn/native/description.h.
"""

from __future__ import annotations

import ctypes
import platform
from ctypes import POINTER, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy.typing as npt

FOLDER = Path(__file__).parent.parent / "native"
INSTRUCTION_SETS = ("amx", "avx512", "avx2")
"""Best first."""
VERSION = 1
"""What snn_version() must say."""
REBUILD = "build it with `make setup` (or `python setup.py build_ext --inplace`), which needs g++ or clang++"


class ModelStruct(ctypes.Structure):
    """SnnModel."""

    _fields_ = (
        *((name, c_int32) for name in ("rnn_type", "tiers", "dim", "n_rnn", "skip", "q_levels", "features")),
        *((name, c_int32) for name in ("precision", "threads", "slots")),
        ("frame_sizes", c_int32 * 8),
        ("arrays", POINTER(c_void_p)),
    )


class BlockStruct(ctypes.Structure):
    """SnnBlock."""

    _fields_ = (
        ("samples", c_int32),
        ("rows", c_int32),
        ("slots", c_void_p),
        ("seed", c_void_p),
        ("song", c_void_p),
        ("start", c_void_p),
        ("temperature", c_void_p),
        ("top_k", c_void_p),
        ("top_p", c_void_p),
        ("forced", c_void_p),
        ("features", c_void_p),
        ("history", c_void_p),
        ("states", POINTER(c_void_p)),
        ("codes", c_void_p),
        ("logits", c_void_p),
    )


@dataclass(frozen=True)
class Library:
    """One build of the kernel, loaded."""

    isa: str
    """amx, avx512 or avx2."""
    c: ctypes.CDLL


def pointer(array: npt.NDArray | None) -> c_void_p:  # type: ignore[type-arg]
    """Where a C-contiguous array begins, or null."""
    if array is None:
        return c_void_p(None)
    if not array.flags.c_contiguous:
        raise ValueError("the native kernel reads C-contiguous arrays only; pass np.ascontiguousarray(...)")
    return c_void_p(array.ctypes.data)


def pointers(arrays: list[npt.NDArray | None]) -> ctypes.Array[c_void_p]:  # type: ignore[type-arg]
    """A C array of pointers; the arrays must outlive it."""
    return (c_void_p * len(arrays))(*(pointer(array) for array in arrays))


@lru_cache(maxsize=4)
def load(isa: str | None = None) -> Library | str:
    """The best build that runs here (or the one named), or why there is none and what to do."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"the native kernel is written for x86-64 and this machine is {platform.machine()}"
    wanted = INSTRUCTION_SETS if isa is None else (isa,)
    built = [path for name in wanted for s in EXTENSION_SUFFIXES if (path := FOLDER / f"{name}{s}").exists()]
    if not built:
        return f"the native kernel is not built for {' or '.join(wanted)}: {REBUILD}"
    why = []
    for path in built:
        found = _open(path.name.split(".")[0], path)
        if isinstance(found, Library):
            return found
        why.append(found)
    return "; ".join(why)


def _open(isa: str, path: Path) -> Library | str:
    try:
        c = ctypes.CDLL(str(path))
        version = int(c.snn_version())
    except (OSError, AttributeError) as error:
        return f"{path.name} can't be loaded ({error}): {REBUILD}"
    if version != VERSION:
        return f"{path.name} is version {version} and this program needs {VERSION}: {REBUILD}"
    if not c.snn_runs_here():
        return f"this CPU can't run the native kernel for {isa}"
    c.snn_create.restype = c_void_p
    c.snn_create.argtypes = [POINTER(ModelStruct)]
    c.snn_destroy.restype = None
    c.snn_destroy.argtypes = [c_void_p]
    c.snn_advance.argtypes = [c_void_p, POINTER(BlockStruct)]
    c.snn_peak.restype = ctypes.c_double
    c.snn_peak.argtypes = [c_int32, c_int32, ctypes.c_double]
    c.snn_bandwidth.restype = ctypes.c_double
    c.snn_bandwidth.argtypes = [c_int64, c_int32, ctypes.c_double]
    return Library(isa, c)
