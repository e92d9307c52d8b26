"""Titles for songs that have none: of two words, or in the manner of a person's own list by a Markov chain."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from samplernn.errors import BadInput

ORDER = 3
"""Letters that the chain looks back on."""
LONGEST = 60
_TRIES = 400
# fmt: off
_FIRST = (
    "Ashen", "Black", "Blind", "Broken", "Burning", "Buried", "Cold", "Crooked", "Drowned", "Endless", "Feral",
    "Frozen", "Hollow", "Iron", "Last", "Molten", "Nameless", "Obsidian", "Pale", "Rusted", "Sacred", "Severed",
    "Shattered", "Silent", "Starless", "Sunken", "Torn", "Vacant", "Violent", "Withered",
)
_SECOND = (
    "Activation", "Ancestor", "Attractor", "Basin", "Bias", "Carrier", "Cathedral", "Cipher", "Decay",
    "Descent", "Dropout", "Echo", "Entropy", "Epoch", "Eigenvalue", "Furnace", "Gate", "Gradient", "Horizon",
    "Kernel", "Lattice", "Manifold", "Memory", "Minimum", "Momentum", "Noise", "Oracle", "Overfit",
    "Perceptron", "Plateau", "Residue", "Saddle", "Sigil", "State", "Static", "Tensor", "Threshold", "Tier",
    "Vector", "Weight",
)
# fmt: on


class Titles:
    """Makes a title for a recipe, the same for the same recipe, never one that is taken."""

    def __init__(self, path: str | None = None) -> None:
        """`path` is a text file with a title a line; raises BadInput when it can't be read or holds fewer than two."""
        self._known = [] if path is None else _read(path)
        self._follows: dict[str, list[str]] = defaultdict(list)
        for title in self._known:
            for before, letter in _steps(title):
                self._follows[before].append(letter)

    def make(self, recipe: dict[str, Any], taken: set[str]) -> str:
        """A title that is not among those taken, nor one of the list itself where the list allows another."""
        key = json.dumps(
            {name: recipe.get(name) for name in ("sweep", "trial", "step", "seed", "index")}, sort_keys=True
        )
        if self._known:
            for attempt in range(_TRIES):
                title = self._walk(f"{key} {attempt}")
                if title and title not in taken and title not in self._known:
                    return title
        return two_words(key, taken)

    def _walk(self, key: str) -> str:
        """One walk through the chain from a title's start to its end; empty when it grows too long."""
        text, draws = "", _draws(key)
        while len(text) <= LONGEST:
            letters = self._follows[text[-ORDER:].rjust(ORDER, "\n")]
            letter = letters[next(draws) % len(letters)]
            if letter == "\n":
                return text.strip()
            text += letter
        return ""


def two_words(key: str, taken: set[str]) -> str:
    """A title of two words for a key that is not among those taken."""
    at, count = next(_draws(key)), len(_FIRST) * len(_SECOND)
    for offset in range(count):
        second, first = divmod((at + 7 * offset) % count, len(_FIRST))
        title = f"{_FIRST[first]} {_SECOND[second]}"
        if title not in taken:
            return title
    return f"Song {len(taken) + 1}"


def _steps(title: str) -> Iterator[tuple[str, str]]:
    """(the ORDER letters before, the letter that follows), with line ends around the title."""
    padded = "\n" * ORDER + title + "\n"
    for at in range(len(title) + 1):
        yield padded[at : at + ORDER], padded[at + ORDER]


def _draws(key: str) -> Iterator[int]:
    """An endless stream of 64-bit numbers that depends on the key alone."""
    counter = 0
    while True:
        yield int.from_bytes(hashlib.sha256(f"{key} {counter}".encode()).digest()[:8], "big")
        counter += 1


def _read(path: str) -> list[str]:
    try:
        text = Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(
            f"the titles {path} can't be read ({error}); give a text file with a title a line"
        ) from error
    titles = [" ".join(line.split())[:LONGEST] for line in text.splitlines() if line.strip()]
    if len(titles) < 2:
        raise BadInput(f"{path} holds {len(titles)} titles and at least two are needed; write one a line")
    return titles
