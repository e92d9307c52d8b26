"""The curves of all trials as one picture, from what the index has read."""

from __future__ import annotations

from math import log2

from orchestrator.audition.index import SweepIndex
from orchestrator.pages.curves import COLOURS, Axis, Line, curve_svg
from orchestrator.pages.sweep_section import BITS, setting


def learning_curves(index: SweepIndex) -> str:
    """SVG: validation bits over steps, a line a trial, the best in colours."""
    best = {
        name: min(bits for _, _, bits in trial.evaluations)
        for name, trial in index.trials.items()
        if trial.evaluations
    }
    ranked = sorted(best, key=lambda name: best[name])
    lines, chance = [], 1.0
    for name, trial in index.trials.items():
        experiment = trial.planned.experiment
        chance = max(chance, log2(experiment.model.q_levels))
        label = " · ".join(
            f"{key.rsplit('.', 1)[-1]} {setting(experiment, key)}" for key in index.config.space
        )
        place = ranked.index(name) if name in best else COLOURS
        points = [(step, bits) for step, _, bits in trial.evaluations]
        lines.append(
            Line(trial.id, label or name, points, place if place < COLOURS else None, trial.state[0])
        )
    title = f"{BITS.label} over steps, one line a trial"
    return curve_svg(lines, Axis("step", "steps"), BITS, title, y_max=chance)
