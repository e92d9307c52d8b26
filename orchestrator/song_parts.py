"""A song in the middle: what is made of it so far, so that any worker goes on from there to the same samples.

songs/<batch>/parts/<song>/<take>-<start>-<stop>/ is a commit of the PCM of samples [start, stop) and of the engine's
state behind it. A part is a function of the song's recipe, so two workers that write the same part write the same
bytes. A song that was begun anew after a trap is another take; earlier ones are void.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from samplernn import commit
from samplernn.audio import decode_flac, encode_flac
from samplernn.errors import BadAudio, Damaged
from samplernn.generate.song import SongState
from samplernn.storage import Storage

Pcm = npt.NDArray[np.int16]
AUDIO, STATE = "audio.flac", "state.safetensors"
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\Z")


@dataclass(frozen=True)
class Part:
    """One committed piece."""

    take: int
    start: int
    """Its first sample."""
    stop: int
    """The sample after its last."""

    @property
    def name(self) -> str:
        """Its folder."""
        return f"{self.take:03d}-{self.start:012d}-{self.stop:012d}"


class SongParts:
    """The parts of one song."""

    def __init__(self, folder: Storage) -> None:
        """`folder` is the song's own below parts/."""
        self._folder = folder
        self.chain: list[Part] = []
        """The parts that the song consists of so far, one after the other from its beginning."""

    def load(self) -> SongState | None:
        """Find how far the song is: fills `chain` with what verifies and returns the state behind it, None to begin."""
        found = [Part(*map(int, m.groups())) for name in self._folder.names() if (m := _NAME.match(name))]
        for take in sorted({part.take for part in found}, reverse=True):
            chain, states = self._follow([part for part in found if part.take == take])
            if chain:
                self.chain = chain
                return states
        return None

    def add(self, part: Part, pcm: Pcm, sample_rate: int, state: SongState) -> None:
        """Commit a part and append it to the chain; the first of another take begins a new chain."""
        files = {AUDIO: encode_flac(pcm, sample_rate, {}), STATE: save_arrays(dict(state))}
        commit.write_commit(self._folder.at(part.name), files)
        self.chain = [one for one in self.chain if one.take == part.take and one.stop <= part.start] + [part]

    def audio(self) -> Iterator[Pcm]:
        """The PCM of the chain, part after part. Raises Damaged where one does not verify any more."""
        for part in self.chain:
            yield self._pcm(part)

    def _follow(self, parts: list[Part]) -> tuple[list[Part], SongState | None]:
        """The longest chain from sample 0 whose every part verifies, and the state behind it."""
        chain: list[Part] = []
        state: SongState | None = None
        at = 0
        while True:
            for part in sorted((one for one in parts if one.start == at), key=lambda one: -one.stop):
                read = self._read(part)
                if read is not None:
                    chain.append(part)
                    state, at = read, part.stop
                    break
            else:
                return chain, state

    def _read(self, part: Part) -> SongState | None:
        """A part's state, once all of it verifies."""
        try:
            self._pcm(part)
            return dict(load_arrays(commit.read_file(self._folder.at(part.name), STATE)))
        except (FileNotFoundError, Damaged, SafetensorError):
            return None

    def _pcm(self, part: Part) -> Pcm:
        folder = self._folder.at(part.name)
        try:
            pcm, _ = decode_flac(commit.read_file(folder, AUDIO))
        except BadAudio as error:
            raise Damaged(f"{folder} verifies and is no FLAC: {error}") from error
        if len(pcm) != part.stop - part.start:
            raise Damaged(f"{folder} holds {len(pcm)} samples and not {part.stop - part.start}")
        return pcm
