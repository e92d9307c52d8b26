"""Every YAML that is shipped is what it says it is; the folder names the class."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.config import GenerateJob, GenerateRun, IngestConfig, SweepConfig, SweepRun
from orchestrator.merge import build, load_yaml
from orchestrator.plan import plan
from samplernn.config import ModelConfig

CONFIGS = Path(__file__).parent.parent / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*") if path.is_file())


def check_model(path: Path) -> None:
    build(ModelConfig, load_yaml(path))


def check_sweep(path: Path) -> None:
    """A sweep file may leave out its name and dataset (given on the command line) and adds a `run` section."""
    data = load_yaml(path)
    build(SweepRun, data.pop("run", None) or {})
    assert plan(build(SweepConfig, {"name": path.stem, "dataset": "any", **data}))


def check_generate(path: Path) -> None:
    data = load_yaml(path)
    build(GenerateRun, data.pop("run", None) or {})
    build(GenerateJob, {"name": "any", "sweep": "any", **data})


def check_demo(path: Path) -> None:
    """The demo's files are the verbs' own: named for the verb, ingest.yaml, sweep.yaml, generate.yaml."""
    verb = path.stem.split("-")[0]
    if verb == "ingest":
        build(IngestConfig, {"name": "any", "source": "any", **load_yaml(path)})
    elif verb == "generate":
        check_generate(path)
    else:
        check_sweep(path)


CHECKS = {"model": check_model, "sweeps": check_sweep, "generate": check_generate, "demo": check_demo}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_shipped_config_parses_by_the_class_of_its_folder(path: Path) -> None:
    assert path.suffix == ".yaml", f"{path.name}: configs/ holds .yaml files only"
    CHECKS[path.relative_to(CONFIGS).parts[0]](path)
