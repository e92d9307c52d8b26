"""The passes of a training step that are no matrix product: in C++ on the CPU (native/), in torch elsewhere.

Both give the same values to rounding. All tensors are contiguous; x, dx and logits are float32 or bfloat16, what is
summed over many rows is float32.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

_SUFFIX = {torch.float32: "f32", torch.bfloat16: "bf16"}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled passes, or None where they were not built."""
    capability = torch.backends.cpu.get_cpu_capability()
    for isa in ("avx512", "avx2"):
        if isa == "avx512" and not capability.startswith("AVX512"):
            continue
        if capability.startswith(("AVX2", "AVX512")):
            for path in sorted((Path(__file__).parent / "native").glob(f"train_{isa}.*so")):
                return ctypes.CDLL(str(path))
    return None


def keep_heap() -> None:
    """Tell glibc to keep freed memory for the next step: giving it back costs a small step 5 to 10 % in page faults."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library, or another system
    trim, top_pad, mmap = -1, -2, -3  # malloc.h
    mallopt(mmap, 32 * 2**20)
    mallopt(trim, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)


def native(x: Tensor) -> bool:
    """Whether passes over x run in C++."""
    return x.device.type == "cpu" and x.dtype in _SUFFIX and library() is not None


def call(name: str, *arguments: Tensor | int | None) -> None:
    """Call a C function with the addresses of contiguous tensors, and integers; None is a null pointer."""
    values: list[ctypes.c_void_p | ctypes.c_int64] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            if not argument.is_contiguous():
                raise ValueError(f"{name}: a tensor of shape {list(argument.shape)} is not contiguous")
            values.append(ctypes.c_void_p(argument.data_ptr()))
        else:
            values.append(ctypes.c_int64(argument or 0))
    getattr(library(), name)(*values)


def add_rows_(
    x: Tensor, bias: Tensor, table: Tensor, codes: Tensor, starts: Tensor, frame: int, relu: bool
) -> None:
    """x[i] += bias[i % frame] + sum over p of table[p * Q + codes[starts[i] + p]], then ReLU if asked for.

    x [rows, dim], bias [frame * dim], table [frame * Q, dim], codes int32 [any], starts int32 [rows].
    """
    rows, dim = x.shape
    levels = len(table) // frame
    if native(x):
        call(f"gather_{_SUFFIX[x.dtype]}", x, bias, table, codes, starts, rows, dim, frame, levels, relu)
        return
    places = torch.arange(frame, device=x.device)
    bags = codes[starts[:, None] + places] + places * levels
    x += torch.embedding_bag(
        table, bags.flatten(), torch.arange(0, bags.numel(), frame, device=x.device), mode=0
    )[0]
    x.view(-1, frame * dim).add_(bias)
    if relu:
        x.relu_()


def scatter_rows_(into: Tensor, dx: Tensor, codes: Tensor, starts: Tensor, frame: int) -> None:
    """into[p * Q + codes[starts[i] + p]] += dx[i] for every row i and p: the gradient of add_rows_'s table."""
    rows, dim = dx.shape
    levels = len(into) // frame
    if native(dx):
        call(f"scatter_{_SUFFIX[dx.dtype]}", into, dx, codes, starts, rows, dim, frame, levels)
        return
    for place in range(frame):
        part = torch.ops.aten.embedding_dense_backward(
            dx.to(into.dtype), codes[starts + place].long(), levels, -1, False
        )
        into[place * levels : (place + 1) * levels] += part


def bias_relu_(y: Tensor, bias: Tensor) -> None:
    """y = max(y + bias, 0): y [rows, dim], bias [dim]."""
    if native(y):
        call(f"bias_relu_{_SUFFIX[y.dtype]}", y, bias, *y.shape)
        return
    y.add_(bias).relu_()


def relu_backward_(dy: Tensor, y: Tensor | None, sums: Tensor) -> None:
    """dy = 0 where y <= 0 (all of it stays when y is None), and sums += dy over the rows: dy, y [rows, dim]."""
    if native(dy):
        call(f"relu_backward_{_SUFFIX[dy.dtype]}", dy, y, sums, *dy.shape)
        return
    if y is not None:
        dy.mul_(y > 0)
    sums += dy.sum(0, dtype=sums.dtype)


def cross_entropy_(
    logits: Tensor, bias: Tensor, targets: Tensor, weight: Tensor, nll: Tensor, grad: bool
) -> None:
    """nll[i] = weight[i] * -log softmax(logits[i] + bias)[targets[i]]; the logits become its gradient if asked for.

    logits [rows, Q], bias [Q], targets int32 [rows], weight and nll float32 [rows].
    """
    if native(logits):
        name = f"cross_entropy_{_SUFFIX[logits.dtype]}"
        call(name, logits, bias, targets, weight, nll, *logits.shape, grad)
        return
    logp = torch.log_softmax(logits.to(weight.dtype) + bias, dim=1)
    spots = targets.long()[:, None]
    torch.mul(logp.gather(1, spots)[:, 0], -weight, out=nll)
    if grad:
        p = logp.exp_().scatter_add_(1, spots, torch.full_like(spots, -1, dtype=logp.dtype))
        logits.copy_(p.mul_(weight[:, None]))
