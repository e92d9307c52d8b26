"""The CUDA backend: the portable backend's frame, recorded once as a CUDA graph and replayed.

A frame of all songs, its draws included, is one launch; the host speaks with the device at a block's edges only.
Not measured yet: no GPU was at hand. The tests check on the CPU what a recording needs of the frame: nothing in it asks
the device for a value, and it reads and writes the same buffers every time.
"""

from __future__ import annotations

import torch

from samplernn.folding import FoldedModel
from samplernn.generate.frame import Frame, Variant
from samplernn.generate.torch_backend import TorchBackend

_WARM_UP = 3
"""Runs before the recording, in which cuBLAS and the allocator make up their minds (PyTorch's notes on CUDA graphs)."""


def cuda_backend(model: FoldedModel, slots: int, precision: str) -> TorchBackend:
    """The portable backend of a model on a CUDA device, its frames replayed as graphs."""
    return TorchBackend(model, slots, precision=precision, run=Recorder())


class Recorder:
    """Runs a frame by replaying a recording of it, made when a variant is first asked for."""

    def __init__(self) -> None:
        self._graphs: dict[Variant, torch.cuda.CUDAGraph] = {}

    def __call__(self, frame: Frame, variant: Variant) -> None:
        graph = self._graphs.get(variant)
        if graph is None:
            graph = self._graphs[variant] = self._record(frame, variant)
        graph.replay()

    def _record(self, frame: Frame, variant: Variant) -> torch.cuda.CUDAGraph:
        """Warming up moves the songs on, so their state is put back afterwards; recording computes nothing."""
        moved = [frame.codes, *frame.states]
        kept = [buffer.clone() for buffer in moved]
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                frame.run(variant)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # The graphs run one after the other and keep nothing inside: one pool of memory serves all.
        pool = next((other.pool() for other in self._graphs.values()), None)
        with torch.cuda.graph(graph, pool=pool):
            frame.run(variant)
        for buffer, before in zip(moved, kept, strict=True):
            buffer.copy_(before)
        return graph
