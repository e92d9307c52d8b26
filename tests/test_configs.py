"""Every YAML that is shipped is what it says it is; the folder names the class."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.config import AlbumConfig, GenerateFile, IngestConfig, SweepFile
from orchestrator.debug import made_tiny
from orchestrator.merge import build, load_yaml
from orchestrator.plan import plan
from samplernn.config import ModelConfig

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*") if path.is_file())


def check_model(path: Path) -> None:
    build(ModelConfig, load_yaml(path))


def check_sweep(path: Path) -> None:
    """A sweep file may leave out its name and dataset (given on the command line) and adds a `run` section."""
    asked = build(SweepFile, {"name": path.stem, "dataset": "any", **load_yaml(path)})
    assert plan(asked.sweep)


def check_generate(path: Path) -> None:
    build(GenerateFile, {"name": "any", "sweep": "any", **load_yaml(path)})


def check_demo(path: Path) -> None:
    """The demo's files are the verbs' own: named for the verb: ingest.yaml, sweep.yaml ..."""
    CHECKS[path.stem](path)


def check_ingest(path: Path) -> None:
    build(IngestConfig, {"name": "any", "source": "any", **load_yaml(path)})


def check_album(path: Path) -> None:
    build(AlbumConfig, {"name": "any", "songs": "any", **load_yaml(path)})


CHECKS = {
    "model": check_model,
    "sweeps": check_sweep,
    "demo": check_demo,
    "ingest": check_ingest,
    "sweep": check_sweep,
    "generate": check_generate,
    "album": check_album,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_shipped_config_parses_by_the_class_of_its_folder(path: Path) -> None:
    assert path.suffix == ".yaml", f"{path.name}: configs/ holds .yaml files only"
    CHECKS[path.relative_to(CONFIGS).parts[0]](path)


@pytest.mark.parametrize(
    "block", re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
)
def test_yaml_in_the_readme_is_what_it_says_it_is(block: str, tmp_path: Path) -> None:
    path = tmp_path / "readme.yaml"
    path.write_text(block)
    (check_sweep if "space:" in block else check_album)(path)


@pytest.mark.parametrize("path", sorted((CONFIGS / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_sweep_made_tiny_for_debug_is_a_sweep_of_a_few_small_models(path: Path) -> None:
    asked = made_tiny(build(SweepFile, {"name": path.stem, "dataset": "any", **load_yaml(path)}))
    trials = plan(asked.sweep)
    assert 1 < len(trials) <= 8
    assert {trial.experiment.train.max_steps for trial in trials} == {8}
    assert max(trial.experiment.model.dim for trial in trials) <= 32
