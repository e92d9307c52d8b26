"""What one trial sends to a dashboard: one history row a training step, and the config under dotted names.

Metrics and clips of the same step share one row. A row leaves only when it is settled: nothing more can be
added to it, because a later step was already there at the look before, or the trial had already ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.trials import ClipSet, TrialView
from samplernn import commit

CLIPS_MAX = 10
TAKEN = {"trial", "sweep", "dataset"}
"""Names in every run's config beside its settings."""
RUN_ID_MAX = 128


@dataclass(frozen=True)
class Shipped:
    """How far a trial is shipped."""

    step: int = -1
    """The last step that was shipped; redone steps of a later attempt are not sent again."""
    clips: tuple[int, ...] = ()
    """Steps whose clips were shipped."""
    state: str = ""
    """The ended state that was told, or ''."""

    def after(self, row: HistoryRow) -> Shipped:
        """The mark once `row` is shipped."""
        clips = self.clips if row.clips is None else (*self.clips, row.clips.step)
        return replace(self, step=max(self.step, row.step), clips=clips)

    def through(self, step: int, clips: list[ClipSet]) -> Shipped:
        """The mark when the server says that it has everything up to `step`."""
        if step <= self.step:
            return self
        known = {*self.clips, *(clip.step for clip in clips if self.step < clip.step <= step)}
        return replace(self, step=step, clips=tuple(sorted(known)))


@dataclass(frozen=True)
class HistoryRow:
    """One row of a run's history at `step`; `values` hold `step` and every metric."""

    step: int
    values: dict[str, float]
    clips: ClipSet | None = None


def last_step(trial: TrialView) -> int:
    """The largest step of any metric row, -1 when there is none."""
    return max((int(row["step"]) for row in trial.rows), default=-1)


def unshipped(trial: TrialView, shipped: Shipped, below: int | None) -> list[HistoryRow]:
    """Rows to send, in the order of their steps: beyond what is shipped and under step `below` (None: all).

    Clips that became readable after their step had been shipped go into rows of their own, where there is room between
    that step and the next one (W&B's steps only go up); their value `step` is still the step at which they were made.
    """
    merged: dict[int, dict[str, float]] = {}
    for row in trial.rows:
        if int(row["step"]) > shipped.step:
            values = {key: value for key, value in row.items() if key != "kind" and value is not None}
            merged[row["step"]] = {**values, **merged.get(row["step"], {})}
    clips = {clip.step: clip for clip in trial.clips if clip.step > shipped.step}
    late = [clip for clip in trial.clips if clip.step <= shipped.step and clip.step not in shipped.clips]
    steps = sorted({*merged, *clips})
    room = steps[0] - shipped.step - 1 if steps else len(late) * (below is None)
    rows = [
        HistoryRow(shipped.step + n, _with_clips({}, clip), clip)
        for n, clip in enumerate(late[:room], start=1)
    ]
    for step in (step for step in steps if below is None or step < below):
        clip, values = clips.get(step), merged.get(step, {})
        rows.append(HistoryRow(step, _with_clips(values, clip) if clip else values, clip))
    return rows


def dotted(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested config under dotted names: {"model": {"dim": 8}} becomes {"model.dim": 8}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def axes(varied: Iterable[str]) -> dict[str, str]:
    """{name without dots: dotted name} of what a sweep varies: W&B's panels take a dot for a step into a nested config.

    The last word where it is one setting's alone, else all of them: {"dim": "model.dim"}.
    """
    short = {name: name.rpartition(".")[2] for name in varied}
    words = Counter(short.values())
    return {
        word if words[word] == 1 and word not in TAKEN else name.replace(".", "_"): name
        for name, word in short.items()
    }


def run_id(sweep: str, trial: str, token: str) -> str:
    """The run's id: the same for every attempt of a trial, another for a sweep of that name elsewhere.

    One that is too long for W&B ends with a hash of the whole instead.
    """
    whole = f"{sweep}-{trial}-{token}"
    if len(whole) <= RUN_ID_MAX:
        return whole
    return f"{whole[: RUN_ID_MAX - 17]}-{commit.sha256(whole.encode())[:16]}"


def caption(trial: str, clip: ClipSet, index: int) -> str:
    """What stands under a clip: trial, step, training time and its measures."""
    minutes, seconds = divmod(round(clip.seconds), 60)
    text = f"{trial} clip {index}, step {clip.step}, {minutes}:{seconds:02d} min of training"
    measures = clip.measures[index] if index < len(clip.measures) else {}
    return ", ".join([text, *(f"{key} {value:.3g}" for key, value in _numbers(measures).items())])


def _with_clips(values: dict[str, float], clip: ClipSet) -> dict[str, float]:
    """The row's values and the mean of each measure over the clips."""
    row: dict[str, float] = {"step": clip.step, "seconds": clip.seconds, **values}
    measures = [_numbers(each) for each in clip.measures]
    for key in sorted({key for each in measures for key in each}):
        found = [each[key] for each in measures if key in each]
        row[f"clips/{key}"] = sum(found) / len(found)
    return row


def _numbers(measures: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in measures.items() if isinstance(value, int | float)}
