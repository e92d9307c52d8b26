"""The portable backend: folded tables and plain PyTorch operations, on any device, in float32 or bf16.

All slots are computed together at one batch shape, whoever sits in them, and on the CPU with a fixed number of threads:
torch's matrix products are not the same bit for bit at another shape or number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from samplernn.errors import BadInput
from samplernn.folding import FoldedModel
from samplernn.generate.backend import Codes, FloatArray, Request, SlotState
from samplernn.generate.frame import Frame, Variant
from samplernn.generate.song_rng import uniforms_beside

ARITHMETIC_VERSION = 2
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

Runner = Callable[[Frame, Variant], None]


class TorchBackend:
    """The states of `slots` songs side by side; `run` is how a frame is run, at once unless told otherwise."""

    def __init__(
        self,
        model: FoldedModel,
        slots: int,
        *,
        precision: str = "fp32",
        threads: int = 1,
        run: Runner = Frame.run,
    ) -> None:
        self.slots, self._precision, self._threads, self._run = slots, precision, threads, run
        # The last product is 3 % of the work and gives the logits their own precision.
        inner = replace(model.to(dtype=DTYPES[precision]), w_out=model.w_out, b_out=model.b_out)
        self._frame = Frame(inner, slots)
        self._model, self._device = model, model.table.device

    @property
    def engine_id(self) -> str:
        """What a song's samples depend on besides its recipe: torch's version and the processor's kernels too."""
        if self._device.type == "cuda":
            where = torch.cuda.get_device_name(self._device).replace(" ", "")
        else:
            where = f"{torch.backends.cpu.get_cpu_capability()}-threads{self._threads}"
        torch_version = torch.__version__.partition("+")[0]
        return (
            f"torch{torch_version}-{self._device.type}-{where}-{self._precision}-slots{self.slots}"
            f"-v{ARITHMETIC_VERSION}"
        )

    @torch.inference_mode()
    def reset(self, slot: int, h0: list[FloatArray] | None = None) -> None:
        """Silence before the slot; its RNNs at h0 or at the model's own start."""
        self._frame.codes[slot] = self._model.config.q_zero
        for index, state in enumerate(self._frame.states):
            start = self._model.tiers[index].h0[:, :, 0] if h0 is None else torch.from_numpy(h0[index])
            state[:, :, slot] = start.to(self._device)

    @torch.inference_mode()
    def advance(self, request: Request) -> Codes:
        """Make one block."""
        variant = Variant(
            cold=bool((request.temperature == 0).any()),
            limited=bool((request.top_k > 0).any() or (request.top_p < 1).any()),
            forced=request.forced is not None,
        )
        self._prepare(request)
        seed, song, start = (
            self._up(key.astype(np.int64)) for key in (request.seed, request.song, request.start)
        )
        cold = request.temperature == 0
        blocks = {
            "uniforms": uniforms_beside(seed, song, start, count=request.samples),
            "sharpness": self._up(np.where(cold, 0, 1 / np.where(cold, 1, request.temperature))),
        }
        if request.forced is not None:
            blocks["forced"] = self._up(request.forced.astype(np.int64))
        return self._walk(request.samples, blocks, request.features, variant)[0]

    @torch.inference_mode()
    def teacher_forced(self, codes: Codes, features: FloatArray | None = None) -> FloatArray:
        """Logits [slots, n, q_levels] at temperature 1 while the codes [slots, n] are forced."""
        blocks = {"forced": self._up(codes.astype(np.int64))}
        logits = self._walk(codes.shape[1], blocks, features, Variant(forced=True, logits=True))[1]
        assert logits is not None
        return logits

    @torch.inference_mode()
    def save(self, slot: int) -> SlotState:
        """A copy of a slot's state between two blocks."""
        history = self._frame.codes[slot, self._frame.context :].to(torch.int16)
        states = {f"rnn.{k}": state[:, :, slot] for k, state in enumerate(self._frame.states)}
        return {name: each.cpu().numpy().copy() for name, each in {"history": history, **states}.items()}

    @torch.inference_mode()
    def load(self, slot: int, state: SlotState) -> None:
        """Put a song's state into a slot. Raises BadInput when it is another model's."""
        shapes = {name: each.shape for name, each in self.save(slot).items()}
        given = {name: each.shape for name, each in state.items()}
        if shapes != given:
            raise BadInput(f"the song's state is another model's: it has {given} and this model {shapes}")
        self._frame.codes[slot, self._frame.context :] = self._up(state["history"].astype(np.int64))
        for k, rnn in enumerate(self._frame.states):
            rnn[:, :, slot] = self._up(state[f"rnn.{k}"])

    def _prepare(self, request: Request) -> None:
        q_levels = self._model.config.q_levels
        top_k = np.where(request.top_k > 0, request.top_k, q_levels).astype(np.int64)
        self._frame.top_k.copy_(self._up(top_k)[:, None])
        self._frame.top_p.copy_(self._up(request.top_p)[:, None])

    def _walk(
        self, samples: int, blocks: dict[str, Tensor], features: FloatArray | None, variant: Variant
    ) -> tuple[Codes, FloatArray | None]:
        """Run a block's frames; each of `blocks` [slots, samples] fills the frame's buffer of that name."""
        frame, context = self._frame, self._frame.context
        codes = torch.empty((self.slots, samples), dtype=torch.int16, device=self._device)
        given = None if features is None else self._up(features)
        logits = []
        with _threads(self._threads):
            for at in range(0, samples, context):
                for name, block in blocks.items():
                    getattr(frame, name).copy_(block[:, at : at + context])
                if given is not None:
                    frame.features.copy_(given[:, at // context])
                self._run(frame, variant)
                codes[:, at : at + context] = frame.codes[:, context:]
                if variant.logits:
                    logits.append(frame.logits.clone())
        seen = torch.cat(logits, dim=1).cpu().numpy() if logits else None
        return codes.cpu().numpy(), seen

    def _up(self, array: npt.NDArray[np.generic]) -> Tensor:
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return torch.from_numpy(array).to(self._device)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch computes with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
