"""What an ingest made, for a person: minutes, tracks, levels, splits, and what was left out and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from samplernn.chunks import SPLITS

_NAME = 20
_CLIPPED, _SILENT, _DC = 0.001, 0.5, 0.01


@dataclass(frozen=True)
class Report:
    """One ingest, as its card tells it."""

    card: dict[str, Any]
    """The body of dataset.json."""
    folder: str
    """Where the dataset is."""
    kept: int = 0
    """Tracks that an earlier run had finished."""
    nodes: Mapping[str, int] = field(default_factory=dict)
    """Files, and pieces of long ones, that each node of the cluster worked on."""

    @property
    def minutes_in(self) -> float:
        """Minutes of audio decoded from the source files."""
        return float(sum(track["source_seconds"] for track in self.card["tracks"])) / 60

    @property
    def seconds_kept(self) -> float:
        """Seconds of audio in the dataset."""
        return float(sum(track["seconds"] for track in self.card["tracks"]))

    @property
    def minutes_out(self) -> dict[str, float]:
        """Minutes in each split."""
        rate = self.card["sample_rate"]
        return {
            split: sum(b - a for track in self.card["tracks"] for a, b in track["splits"][split]) / rate / 60
            for split in SPLITS
        }

    @property
    def _by_track(self) -> bool:
        return bool(self.card["config"]["split_by"] == "track")

    def to_text(self, most: int | None = 40) -> str:
        """The report in at most `most` tracks and as many files left out; None shows all."""
        return "\n".join(
            (*self._summary(), "", *self._tracks(most), *self._worth_a_look(most), *self._left_out(most), "")
        )

    def _summary(self) -> Iterator[str]:
        tracks = self.card["tracks"]
        total = self.seconds_kept / 60
        kept = f" ({self.kept} kept from an earlier run)" if self.kept else ""
        yield (
            f"Dataset {self.card['name']}: {count(len(tracks), 'track')}{kept}, {total:.1f} min of "
            f"{self.card['sample_rate']:,} Hz mono from {self.minutes_in:.1f} min of audio"
        )
        splits = self.minutes_out
        held = ", ".join(f"{split} {minutes:.2f} min" for split, minutes in splits.items())
        yield f"Splits: {held}, in none {total - sum(splits.values()):.2f} min"
        yield from self._proof()
        yield f"Licence: {self.card['license']}"
        if len(self.nodes) > 1:
            yield f"Worked on {len(self.nodes)} nodes: {', '.join(map(str, self.nodes.values()))} files or pieces"
        yield f"Folder: {self.folder}"

    def _proof(self) -> Iterator[str]:
        """What the card proves of its splits."""
        proof = self.card["proof"]
        gap, rate = proof["samples_between_splits"], self.card["sample_rate"]
        apart = (
            "whole tracks"
            if gap is None
            else f"at least {gap / rate:.3f} s lie between two splits of a track"
        )
        alike = (
            f"; the two most alike tracks measure {proof['most_alike_tracks']:.2f} (copies measure 0.98 and more and "
            "are left out)"
        )
        yield (
            f"Proof: {proof['samples_in_two_splits']:,} samples are in two splits; {apart}"
            f"{alike if len(self.card['tracks']) > 1 else ''}"
        )

    def _tracks(self, most: int | None) -> Iterator[str]:
        head = f"{'track':<{_NAME}} {'min':>6} {'source':>10} {'level':>5} {'peak':>5} {'DC':>7}"
        yield f"{head} {'silent':>6} {'clip':>6} {'flat':>6}"
        for track in self.card["tracks"][:most]:
            measured = track["measures"]
            source = f"{track['source_rate'] / 1000:g}k x{track['channels']}"
            yield (
                f"{_short(track['source']):<{_NAME}} {track['seconds'] / 60:6.2f} {source:>10} "
                f"{measured['rms_dbfs']:5.1f} {measured['peak_dbfs']:5.1f} {measured['dc']:z7.4f} "
                f"{measured['silence']:6.1%} {measured['clipped']:6.2%} {measured['flatness']:6.4f}"
            )
        yield from _rest(len(self.card["tracks"]), most)
        yield "(source in Hz x channels, level and peak in dBFS, DC as a share of full scale,"
        yield " clip: clipped samples, flat: spectral flatness, 0.56 in white noise)"

    @property
    def notes(self) -> list[str]:
        """What a listener would want to know before training, a line each."""
        return [note for track in self.card["tracks"] for note in _notes(track, self._by_track)]

    def _worth_a_look(self, most: int | None) -> Iterator[str]:
        notes = self.notes
        if notes:
            yield ""
            yield "Worth a look:"
            yield from (f"  {note}" for note in notes[:most])
            yield from _rest(len(notes), most)

    def _left_out(self, most: int | None) -> Iterator[str]:
        skipped = self.card["skipped"]
        if not skipped:
            return
        yield ""
        yield f"Left out: {count(len(skipped), 'file')}"
        for row in skipped[:most]:
            yield f"  {row['path']}: {row['reason']}"
        yield from _rest(len(skipped), most)


def count(number: int, noun: str) -> str:
    """1 track, 2 tracks."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _notes(track: dict[str, Any], by_track: bool) -> Iterator[str]:
    """What a listener would want to know before training on a track."""
    measured = track["measures"]
    if measured["clipped"] > _CLIPPED:
        yield f"{track['source']}: {measured['clipped']:.1%} of its samples are clipped"
    if measured["silence"] > _SILENT:
        yield f"{track['source']}: {measured['silence']:.0%} of it is silence"
    if abs(measured["dc"]) > _DC:
        yield f"{track['source']}: its mean is {measured['dc']:+.3f} of full scale, not 0"
    yield from _cleaned(track)
    if not by_track and not track["splits"]["valid"]:
        yield f"{track['source']}: too short to hold anything out; all of it is for training"


def _cleaned(track: dict[str, Any]) -> Iterator[str]:
    """What was done to a track."""
    done = track["cleaned"]
    parts = [
        f"{words} {done[name]:{form}}{unit}"
        for name, words, form, unit in (
            ("dc", "DC removed", "+.4f", ""),
            ("gain_db", "gain", "+.1f", " dB"),
            ("silence_seconds", "silence left out", ".1f", " s"),
            ("clipped_seconds", "clipped passages left out", ".1f", " s"),
        )
        if done.get(name)
    ]
    if track["ranges"]:
        parts.append(f"{track['seconds']:.1f} s of {track['source_seconds']:.1f} s chosen by ranges.csv")
    if parts:
        yield f"{track['source']}: {', '.join(parts)}"


def _rest(total: int, most: int | None) -> Iterator[str]:
    if most is not None and total > most:
        yield f"  ... and {total - most:,} more: see report.txt in the dataset's folder"


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"...{name[-(_NAME - 3) :]}"
