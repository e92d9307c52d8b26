"""The native backend: the folded model in one C++ kernel on the CPU (samplernn/native), fp32, bf16 or int8 weights.

States live here, in NumPy; a block's active songs are taken up by the kernel and put down again, so that a song depends
neither on its slot nor on its neighbours. Sums have one fixed order: the same bits for any number of songs and threads.
"""

from __future__ import annotations

import ctypes
import os
from typing import Literal

import numpy as np
import numpy.typing as npt

from samplernn.errors import BadInput, SampleRNNError
from samplernn.folding import FoldedModel
from samplernn.generate.backend import DRAW, Codes, FloatArray, Request, SlotState
from samplernn.generate.native_library import BlockStruct, Library, ModelStruct, load, pointer, pointers

Precision = Literal["fp32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
ARITHMETIC_VERSION = 1
_RNN_TYPES = ("LSTM", "GRU", "GRU-torch")


def unavailable() -> str | None:
    """Why this machine can't use the native backend and what to do about it, or None when it can."""
    library = load()
    return library if isinstance(library, str) else None


def cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class NativeBackend:
    """The state of `slots` songs and the kernel that advances them; a samplernn.generate.backend.Backend."""

    def __init__(
        self,
        model: FoldedModel,
        slots: int,
        threads: int | None = None,
        precision: Precision = "fp32",
        isa: str | None = None,
    ) -> None:
        """threads: all CPUs this process may use when None. isa: avx2, avx512 or amx; None takes the best there is.

        Raises SampleRNNError when the kernel is not there (see `unavailable`), BadInput on a value out of range.
        """
        threads = cpus() if threads is None else threads
        for name, value, most in (("slots", slots, 65_536), ("threads", threads, 1024)):
            if not 1 <= value <= most:
                raise BadInput(f"{name} {value} is not between 1 and {most}; take a number in between")
        if precision not in PRECISIONS:
            raise BadInput(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}; take one of them")
        library = load(isa)
        if isinstance(library, str):
            raise SampleRNNError(library)
        self.slots, self.threads, self.precision, self.isa = slots, threads, precision, library.isa
        self._config = model.config
        self._features = model.features
        self._c = library.c
        self._handle: ctypes.c_void_p | None = _create(
            library, model, self._features, slots, threads, PRECISIONS.index(precision)
        )
        context, silence = self._config.context, self._config.q_zero
        self._history = np.full((slots, context), silence, dtype=np.int16)
        self._h0 = [_numpy(tier.h0)[:, :, 0].copy() for tier in model.tiers]
        self._states = [np.repeat(h0[None], slots, axis=0) for h0 in self._h0]

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._c.snn_destroy(self._handle)
            self._handle = None

    @property
    def engine_id(self) -> str:
        """fp32 and int8 give the same bits on every x86-64; bf16 rounds as the instruction set does."""
        precision = f"bf16-{self.isa}" if self.precision == "bf16" else self.precision
        return f"native-{precision}-v{ARITHMETIC_VERSION}"

    def reset(self, slot: int, h0: list[FloatArray] | None = None) -> None:
        """Silence before the slot, its RNNs at h0 (one [n_rnn, parts, dim] a tier; None: the model's own start)."""
        self._history[slot] = self._config.q_zero
        for state, start in zip(self._states, self._h0 if h0 is None else h0, strict=True):
            state[slot] = start

    def advance(self, request: Request) -> Codes:
        """Make one block: codes int16 [slots, n]; 0 in inactive slots."""
        codes = np.zeros((self.slots, request.samples), dtype=np.int16)
        self._run(request, codes, None)
        return codes

    def teacher_forced(self, codes: Codes, features: FloatArray | None = None) -> FloatArray:
        """Logits [slots, n, q_levels] at temperature 1 while the codes [slots, n] are forced; states advance."""
        none = np.zeros(self.slots, dtype=np.uint32)
        request = Request(
            active=np.ones(self.slots, dtype=np.bool_),
            seed=none,
            song=none,
            start=np.zeros(self.slots, dtype=np.int64),
            temperature=np.ones(codes.shape, dtype=np.float32),
            top_k=np.zeros(self.slots, dtype=np.int32),
            top_p=np.ones(self.slots, dtype=np.float32),
            forced=codes,
            features=features,
        )
        logits = np.empty((*codes.shape, self._config.q_levels), dtype=np.float32)
        self._run(request, np.empty(codes.shape, dtype=np.int16), logits)
        return logits

    def save(self, slot: int) -> SlotState:
        """A copy of a slot's state between two blocks."""
        rnns = {f"rnn.{tier}": state[slot].copy() for tier, state in enumerate(self._states)}
        return {"history": self._history[slot].copy(), **rnns}

    def load(self, slot: int, state: SlotState) -> None:
        """Put a song's state into a slot; what follows is what would have followed where it was saved."""
        self._history[slot] = state["history"]
        for tier, mine in enumerate(self._states):
            mine[slot] = state[f"rnn.{tier}"]

    def _run(self, request: Request, codes: Codes, logits: FloatArray | None) -> None:
        active = np.flatnonzero(request.active).astype(np.int32)
        samples = request.samples
        self._check(request, active)
        if not len(active):
            return
        arrays = (
            active,
            _as(request.seed, np.uint32),
            _as(request.song, np.uint32),
            _as(request.start, np.int64),
            _as(request.temperature, np.float32),
            _as(request.top_k, np.int32),
            _as(request.top_p, np.float32),
            None if request.forced is None else _as(request.forced, np.int16),
            None if request.features is None else _as(request.features, np.float32),
            self._history,
        )
        block = BlockStruct(
            samples,
            len(active),
            *(pointer(array) for array in arrays),
            pointers(list(self._states)),
            pointer(codes),
            pointer(logits),
        )
        if self._c.snn_advance(self._handle, ctypes.byref(block)):
            raise SampleRNNError(
                f"no memory for a block of {len(active)} songs of {samples} samples; take fewer"
            )

    def _check(self, request: Request, active: npt.NDArray[np.int32]) -> None:
        """The kernel reads by index: nothing out of range may reach it."""
        n, context, config = request.samples, self._config.context, self._config
        if not n or n % context:
            raise BadInput(f"a block of {n} samples is not a multiple of the largest frame, {context}")
        features = (self.slots, n // context, self._features) if self._features else None
        shapes = {
            "active": (self.slots,), "seed": (self.slots,), "song": (self.slots,), "start": (self.slots,),
            "temperature": (self.slots, n), "top_k": (self.slots,), "top_p": (self.slots,),
        }  # fmt: skip
        for name, shape in shapes.items():
            if getattr(request, name).shape != shape:
                raise BadInput(f"{name} is {getattr(request, name).shape} and must be {shape}")
        if (None if request.features is None else request.features.shape) != features:
            found = None if request.features is None else request.features.shape
            raise BadInput(f"features are {found} and this model needs {features}")
        if request.forced is not None:
            forced = request.forced[active]
            if request.forced.shape != (self.slots, n):
                raise BadInput(f"forced is {request.forced.shape} and must be {(self.slots, n)}")
            if forced.size and (forced.min() < DRAW or forced.max() >= config.q_levels):
                raise BadInput(f"forced codes must be below {config.q_levels} (or {DRAW}: drawn)")


def _numpy(tensor: object) -> FloatArray:
    array: FloatArray = np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)  # type: ignore[attr-defined]
    return array


def _as(array: npt.NDArray[np.generic], dtype: type[np.generic]) -> npt.NDArray[np.generic]:
    return np.ascontiguousarray(array, dtype=dtype)


def _create(
    library: Library, model: FoldedModel, features: int, slots: int, threads: int, precision: int
) -> ctypes.c_void_p:
    """The kernel's own packed copy of the model."""
    config = model.config
    tensors: list[object] = []
    for tier in model.tiers:
        tensors += tier.expand or (None, None)
        for layer in tier.layers:
            tensors += (layer.w_x, layer.w_h, layer.bias, layer.to_out)
        tensors += (tier.out_bias, tier.up, tier.up_bias)
    tensors += (model.table, model.w3, model.b3, model.w_out, model.b_out)
    arrays = [None if tensor is None else _numpy(tensor) for tensor in tensors]
    about = ModelStruct(
        _RNN_TYPES.index(config.rnn_type), len(config.frame_sizes), config.dim, config.n_rnn, config.skip_conn,
        config.q_levels, features, precision, threads, slots, config.frame_sizes, pointers(list(arrays)),
    )  # fmt: skip
    handle = library.c.snn_create(ctypes.byref(about))
    if not handle:
        raise SampleRNNError(
            f"no memory or threads for the native kernel with {slots} slots and {threads} threads; take fewer slots, "
            "or a smaller precision (bf16, int8)"
        )
    return ctypes.c_void_p(handle)
