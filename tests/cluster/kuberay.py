"""What KubeRay takes, as far as our templates use it: field names, types, required fields and choices.

Written by hand from the API types of github.com/ray-project/kuberay v1.7.0 (raycluster_types.go and rayjob_types.go
in ray-operator/apis/ray/v1), whose generated CRDs have 2.3 MB. A field that is not here is refused, so that a new one
in a template is looked up there first. Pod templates are Kubernetes' own: kubernetes-validate checks them.
"""

from __future__ import annotations

from typing import Any


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


_TEXT, _FLAG, _COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_POD = _object("spec", spec={"type": "object"}, metadata={"type": "object"})
_HEAD = _object("template", rayStartParams=_TEXTS, template=_POD)
_WORKERS = _object(
    "groupName minReplicas maxReplicas template",
    groupName=_TEXT,
    priority={"type": "integer"},
    minReplicas=_COUNT,
    maxReplicas=_COUNT,
    rayStartParams=_TEXTS,
    template=_POD,
)
_CLUSTER = _object(
    "headGroupSpec",
    rayVersion=_TEXT,
    enableInTreeAutoscaling=_FLAG,
    autoscalerOptions=_object(
        version={"enum": ["v1", "v2"]},
        idleTimeoutSeconds=_COUNT,
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
    ),
    authOptions=_object(mode={"enum": ["disabled", "token"]}, secretName=_TEXT),
    headGroupSpec=_HEAD,
    workerGroupSpecs={"type": "array", "items": _WORKERS},
)
_JOB = _object(
    entrypoint=_TEXT,
    shutdownAfterJobFinishes=_FLAG,
    ttlSecondsAfterFinished=_COUNT,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    submitterConfig=_object(backoffLimit=_COUNT),
    rayClusterSpec=_CLUSTER,
)


def schema(kind: str) -> dict[str, Any]:
    """JSON Schema of a RayCluster or a RayJob."""
    return _object(
        "apiVersion kind metadata spec",
        apiVersion={"const": "ray.io/v1"},
        kind={"const": kind},
        metadata=_object("name", name=_TEXT),
        spec={"RayCluster": _CLUSTER, "RayJob": _JOB}[kind],
    )
