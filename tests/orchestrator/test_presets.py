"""Model presets: below what a file or a command line says, and refused when there is none of that name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.asked import PRESETS, experiment_asked, sweep_asked, train_asked
from orchestrator.cli import app
from samplernn.errors import BadInput


def test_a_preset_is_the_model_and_what_is_said_beside_it_wins():
    config = train_asked(["dataset=band", "preset=samplernn-paper-3tier", "dim=512"], debug=False)
    model = config.base.model
    assert (model.frame_sizes, model.rnn_type, model.q_type, model.learn_h0) == (
        (2, 8),
        "GRU",
        "linear",
        True,
    )
    assert model.dim == 512


def test_a_sweep_names_its_preset_in_yaml(tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "dataset: band\nbase: {preset: prism, model: {n_rnn: 2}}\nspace: {model.dim: [64, 128]}\n"
    )
    config = sweep_asked(str(file), [], debug=False)
    assert (config.base.model.frame_sizes, config.base.model.n_rnn) == ((16, 64), 2)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="dadabots-16k"):
        experiment_asked(["preset=dadabots"])


def test_all_presets_of_the_papers_are_there():
    assert {path.stem for path in PRESETS.glob("*.yaml")} == {
        "dadabots-16k", "dadabots-32k", "samplernn-paper-2tier", "samplernn-paper-3tier", "prism",
    }  # fmt: skip


def test_doctor_says_what_would_fit_instead(tmp_path: Path):
    asked = ["doctor", "--workspace", str(tmp_path), "preset=prism", "batch_size=65536"]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 1
    assert "accumulate" in result.output
    small = CliRunner().invoke(app, [*asked[:3], "dim=64", "n_rnn=2", "batch_size=4"])
    assert "training takes about" in small.output
