"""Where Ray put this worker, and the device that follows from it."""

from __future__ import annotations

import os
import platform
from typing import Any

import ray
import torch


def assigned_device() -> torch.device:
    """CUDA where Ray assigned this worker a GPU, else the CPU.

    Only Ray knows: on a cluster that someone else started, a worker that was given no GPU may still see them all.
    """
    return torch.device("cuda" if ray.get_gpu_ids() and torch.cuda.is_available() else "cpu")


def assigned_cores() -> int:
    """Threads for this worker: what Ray assigned, which it also puts in OMP_NUM_THREADS."""
    return max(1, int(float(os.environ.get("OMP_NUM_THREADS", "1"))))


def whereabouts(device: torch.device) -> dict[str, Any]:
    """Facts for the record: the node, the GPUs that Ray assigned and those the process can see, and the arithmetic."""
    return {
        "host": platform.node(),
        "node": ray.get_runtime_context().get_node_id(),
        "pid": os.getpid(),
        "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }
