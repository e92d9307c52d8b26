"""What every benchmark hands over: a table for a person, and JSON with the machine and each figure's samples."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Report:
    """Figures by name, in the order they were added."""

    figures: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, name: str, unit: str, samples: Sequence[float]) -> float:
        """Add a figure: its value is the samples' median, which is returned."""
        value = statistics.median(samples)
        self.figures[name] = {"value": value, "unit": unit, "samples": list(samples)}
        return value

    def write(self, path: Path, **facts: Any) -> None:
        """`{"machine": ..., "figures": ...}` as JSON; `facts` are more of the machine."""
        body = {"machine": machine() | facts, "figures": self.figures}
        path.write_text(json.dumps(body, indent=2) + "\n")


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    known = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in known.items()}
    flags = [
        f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in fields.get("flags", "").split()
    ]
    return f"{fields.get('model name', 'unknown')} ({' '.join(flags)})"
