"""A song's own song.json as the order to make it again: the same samples, wherever its checkpoint and engine are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.workspace import RECORDING, RECORDINGS
from samplernn import commit
from samplernn.dc import CUTOFF_HZ
from samplernn.errors import BadInput

if TYPE_CHECKING:
    from orchestrator.sources import Source

SLOTS_IN_ID = re.compile(r"-slots(\d+)")
"""In an engine id: places that samples depend on."""
_DRAWN = (
    "seconds", "temperature", "top_k", "top_p", "h0", "prompt", "follow", "on_trap", "max_restarts", "seed",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """What a song.json says of its song."""

    body: dict[str, Any]
    path: Path

    @classmethod
    def read(cls, path: str) -> Recipe:
        """Raises BadInput when the file is not a song's."""
        try:
            body = json.loads(Path(path).expanduser().read_text("utf-8"))
            recipe = cls(dict(body["recipe"]), Path(path).expanduser().resolve())
            missing = {
                "sweep",
                "trial",
                "step",
                "index",
                "engine",
                "high_pass_hz",
                "model_sha256",
                *_DRAWN,
            } - recipe.body.keys()
        except OSError as error:
            raise BadInput(f"{path} can't be read ({error.strerror}); check the path") from error
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                f"{path} is not a song's song.json ({error}); give one from songs/<batch>/songs/"
            ) from error
        if missing:
            raise BadInput(f"{path} lacks {', '.join(sorted(missing))}: it was written by another version")
        return recipe

    @property
    def engine(self) -> str:
        """Engine id."""
        return str(self.body["engine"])

    def settings(self) -> dict[str, Any]:
        """The settings of a batch of this one song, as a YAML of songs has them."""
        recipe = self.body
        drawn = {key: recipe[key] for key in _DRAWN}
        drawn |= {
            what: self._piece(recipe[what]) for what in ("prompt", "follow") if recipe[what] is not None
        }
        slots = SLOTS_IN_ID.search(self.engine)
        precision = next((name for name in ("int8", "bf16") if f"-{name}" in self.engine), "fp32")
        return {
            **{key: recipe[key] for key in ("sweep", "trial", "step")},
            "generate": {**drawn, "songs": 1, "first": recipe["index"]},
            "run": {
                "actors": 1,
                "backend": self._backend,
                "precision": precision,
                "slots": int(slots[1]) if slots else None,
            },
        }

    @property
    def _backend(self) -> str:
        if self.engine.startswith("native"):
            return "native"
        return "cuda" if "-cuda" in self.engine else "torch"

    def check(self, source: Source) -> None:
        """Raises BadInput when the checkpoint, or the way songs are written, is not what the song was made with."""
        have = commit.read_manifest(source.checkpoint.folder)["files"]["model.safetensors"]["sha256"]
        if have != self.body["model_sha256"]:
            raise BadInput(
                f"{source.checkpoint.folder} holds other weights than the song was made from; find the checkpoint with "
                f"SHA-256 {self.body['model_sha256']}"
            )
        if self.body["high_pass_hz"] != CUTOFF_HZ:
            raise BadInput(
                f"{self.path} says high_pass_hz {self.body['high_pass_hz']} and this version writes songs with "
                f"{CUTOFF_HZ:g}; make it again with the version that it was made with"
            )

    def _piece(self, piece: dict[str, Any]) -> dict[str, Any]:
        """The recording as the song's batch keeps it, where that is still around the file."""
        kept = self.path.parents[2] / RECORDINGS / piece["sha256"][:16] / RECORDING
        wanted = {key: value for key, value in piece.items() if key != "sha256"}
        return {**wanted, "path": str(kept), "offset": 0.0} if kept.is_file() else wanted
