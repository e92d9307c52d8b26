"""Short names on the command line: `dim=512` for base.model.dim, wherever only one setting is meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from orchestrator.problems import names
from samplernn.errors import BadInput


def spell_out(model: type[BaseModel], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Overrides with every short name replaced by the dotted name that ends in it; full names stay.

    Raises BadInput when a short name fits several settings. A name that fits none is left for validation to report.
    """
    known = list(names(model))
    full: dict[str, Any] = {}
    for key, value in overrides.items():
        if key.split(".")[0] in model.model_fields:
            full[key] = value
            continue
        fits = [name for name in known if name.endswith(f".{key}")]
        if len(fits) > 1:
            raise BadInput(f"{key} may mean {' or '.join(fits)}; write the one you mean")
        full[fits[0] if fits else key] = value
    return full
