"""Which backend generates here: the one place that knows them all.

auto is CUDA's on a CUDA device, the native kernel where it loads, and portable PyTorch otherwise. A backend asked
for by name is used or refused, never replaced.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from samplernn.errors import BadInput
from samplernn.folding import FoldedModel
from samplernn.generate.backend import Backend
from samplernn.generate.cuda_backend import cuda_backend
from samplernn.generate.native_backend import NativeBackend, unavailable
from samplernn.generate.torch_backend import TorchBackend

Name = Literal["native", "torch", "cuda"]
Wanted = Literal["auto", "native", "torch", "cuda"]
Precision = Literal["fp32", "bf16", "int8"]

SLOTS: dict[Name, int] = {"native": 32, "torch": 8, "cuda": 128}
"""Songs side by side unless told otherwise."""
SLOWER = "1.1 to 3.1 times slower"
"""Portable PyTorch against the native kernel, both float32 on one thread with 1 and 8 songs, over the five models of
`benchmarks/generation.py --portable`. Against int8, and with the native kernel's 32 songs, it is more."""


@dataclass(frozen=True)
class Serving:
    """What generates here, for a person."""

    name: Name
    said: str
    """One line: the backend, and what it costs that it isn't the fastest one."""
    fix: str = ""
    """What keeps the fastest one away and what to do about it; empty when it serves or another was asked for."""


def serving(device: torch.device, wanted: Wanted = "auto", precision: Precision = "fp32") -> Serving:
    """The backend for a device. Raises BadInput when what is wanted isn't there."""
    if wanted == "cuda" and device.type != "cuda":
        raise BadInput("backend cuda needs a CUDA device, and there is none; use backend auto")
    name: Name = "cuda" if device.type == "cuda" and wanted in ("auto", "cuda") else "torch"
    why_not = "" if name == "cuda" or wanted == "torch" else why_no_native()
    if wanted == "native" and why_not:
        raise BadInput(f"backend native can't be used: {why_not}; use backend auto")
    if name == "torch" and wanted != "torch" and not why_not:
        name = "native"
    if precision == "int8" and name != "native":
        raise BadInput(
            f"int8 weights are the native kernel's, and backend {name} serves here"
            f"{f' ({why_not})' if why_not else ''}; use precision bf16 or fp32"
        )
    if name == "cuda":
        return Serving(name, f"CUDA graphs, {precision}")
    if name == "native":
        return Serving(name, f"native kernel, {precision}")
    said = f"portable PyTorch on {device.type}, {precision}"
    return Serving(name, f"{said}, {SLOWER} than the native kernel" if why_not else said, why_not)


def choose_backend(
    model: FoldedModel,
    device: torch.device,
    *,
    wanted: Wanted = "auto",
    precision: Precision = "fp32",
    slots: int | None = None,
    threads: int | None = None,
) -> tuple[Backend, Serving]:
    """A backend that holds `slots` songs of a model, on `threads` CPU threads.

    threads None is 1 for PyTorch, whose samples depend on it, and torch's own number for the native kernel, whose
    don't. Raises BadInput when what is wanted isn't there or a weight is NaN or infinite.
    """
    if not model.is_finite():
        raise BadInput("a weight of the model is NaN or infinite; take an earlier checkpoint")
    served = serving(device, wanted, precision)
    count = slots or SLOTS[served.name]
    if served.name == "native":
        threads = threads or torch.get_num_threads()
        backend: Backend = NativeBackend(model.to(torch.device("cpu")), count, threads, precision)
        return backend, served
    placed = model.to(device)
    if served.name == "cuda":
        return cuda_backend(placed, count, precision), served
    return TorchBackend(placed, count, precision=precision, threads=threads or 1), served


def why_no_native() -> str:
    """Why the native kernel can't be used here and what to do about it; empty when it can."""
    return unavailable() or ""
