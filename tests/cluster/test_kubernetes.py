"""The Kubernetes templates: KubeRay's fields, Kubernetes' own schema of the pods, one cluster in both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.cluster.kuberay import schema

FOLDER = Path(__file__).parent.parent.parent / "cluster" / "kubernetes"
VERSION = "1.37"


def read(name: str) -> dict[str, Any]:
    """A template as its user makes it."""
    return yaml.safe_load(
        re.sub(r"YOUR_([A-Z_]+)", lambda word: word[1].lower(), (FOLDER / name).read_text())
    )


def cluster_of(name: str) -> dict[str, Any]:
    """The RayCluster's spec in a template."""
    spec = read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


@pytest.mark.parametrize(("name", "kind"), [("raycluster.yaml", "RayCluster"), ("rayjob.yaml", "RayJob")])
def test_template_has_the_fields_of_kuberay(name, kind):
    body = read(name)
    jsonschema.validate(body, schema(kind))
    misspelt = cluster_of(name)
    misspelt["workerGroupSpecs"][0]["maxReplica"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(body | {"kind": "RayCluster", "spec": misspelt}, schema("RayCluster"))


def test_pods_and_claim_pass_the_schema_of_kubernetes():
    validator = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    spec = cluster_of("raycluster.yaml")
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "any"}, **group["template"]}
        validator.validate(pod, VERSION, strict=True)
        with pytest.raises(validator.ValidationError):
            validator.validate(pod | {"spec": pod["spec"] | {"toleration": []}}, VERSION, strict=True)
    validator.validate(read("workspace.yaml"), VERSION, strict=True)


def test_job_runs_on_the_same_cluster_with_nodes_from_the_start():
    of_job, lasting = cluster_of("rayjob.yaml"), cluster_of("raycluster.yaml")
    first = of_job["workerGroupSpecs"][0]
    assert 0 < first["minReplicas"] <= first["maxReplicas"]
    first["minReplicas"] = 0
    assert of_job == lasting


def test_cluster_wants_the_token_and_has_no_gpu_on_its_head():
    spec = cluster_of("raycluster.yaml")
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0", "num-gpus": "0"}
    assert spec["workerGroupSpecs"][0]["priority"] > spec["workerGroupSpecs"][1]["priority"]
    for group in spec["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert {"name": "workspace", "mountPath": "/workspace"} in container["volumeMounts"]
    assert (
        f"ray[data,default,tune]>={spec['rayVersion'].removesuffix('.0')},"
        in (FOLDER.parent.parent / "pyproject.toml").read_text()
    )
