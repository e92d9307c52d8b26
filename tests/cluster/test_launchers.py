"""Every launcher template is what its reader takes it for: Ray's own schema and autoscaler, an EC2 that is moto's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.shell import linted

CLUSTER = Path(__file__).parent.parent.parent / "cluster"
TEMPLATES = sorted(CLUSTER.rglob("*.yaml"))
YOURS = re.compile(r"\bYOUR_[A-Z_]+\b")
VALUES = {
    "YOUR_REGION": "us-east-1",
    "YOUR_ZONE": "us-central1-a",
    "YOUR_PROJECT": "band-of-mine",
    "YOUR_BOOT_IMAGE": "projects/deeplearning-platform-release/global/images/family/common",
    "YOUR_IMAGE": "registry.example/me/orchestrator:gpu",
}
CLOUDS = ("aws", "gcp")


def filled_in(template: Path, **values: str) -> dict[str, Any]:
    """A template as its user makes it."""
    known = VALUES | values
    return yaml.safe_load(YOURS.sub(lambda found: known[found[0]], template.read_text()))


def prepared(cloud: str) -> dict[str, Any]:
    """A cloud's template with everything that `ray up` fills in before it asks the cloud."""
    from ray.autoscaler._private.util import prepare_config

    return prepare_config(filled_in(CLUSTER / cloud / "cluster.yaml", YOUR_AMI="ami-12345678"))


def named(path: Path) -> str:
    return str(path.relative_to(CLUSTER))


def test_there_are_templates():
    assert {
        "aws/cluster.yaml",
        "gcp/cluster.yaml",
        "kubernetes/raycluster.yaml",
        "kubernetes/rayjob.yaml",
    } <= {named(path) for path in TEMPLATES}


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_template_is_yaml_without_a_key_twice_and_without_a_secret(path):
    for document in yaml.compose_all(path.read_text()):
        for node in mappings(document):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
    assert not re.search(r"(?i)(password|secret_?key|api_?key|token):\s*[\"']?\w{16,}", path.read_text())


def mappings(node: yaml.Node):
    """Every mapping at and below a YAML node."""
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from mappings(value)


@pytest.mark.parametrize("path", TEMPLATES, ids=named)
def test_what_is_yours_to_fill_in_is_explained_on_the_page_and_nothing_else(path):
    here = [other for other in TEMPLATES if other.parent == path.parent]
    asked = {word for other in here for word in YOURS.findall(other.read_text())}
    told = set(
        re.findall(r"^ *- `(YOUR_[A-Z_]+)`: \S", (path.parent / "README.md").read_text(), re.MULTILINE)
    )
    assert told == asked
    filled = YOURS.sub("mine", path.read_text())
    assert "YOUR_" not in filled, "as `grep YOUR_` of the page would find it"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_cloud_template_passes_the_schema_of_ray_up(cloud):
    from ray.autoscaler._private.util import validate_config

    config = prepared(cloud)
    validate_config(config)
    with pytest.raises(Exception, match="idle_timeout_minute"):
        validate_config(config | {"idle_timeout_minute": 5})
    assert (config["idle_timeout_minutes"], config["provider"]["type"]) == (5, cloud)
    for kind in config["available_node_types"].values():
        assert kind["min_workers"] == 0


@pytest.mark.parametrize("cloud", CLOUDS)
def test_cloud_head_has_no_gpu_a_token_and_a_dashboard_on_loopback(cloud):
    config = prepared(cloud)
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    head, node = (config[f"{kind}_start_ray_commands"][-1] for kind in ("head", "worker"))
    assert "python -m cluster.start head " in head
    assert {"--num-gpus=0", "--autoscaling-config=~/ray_bootstrap_config.yaml"} <= set(shlex.split(head))
    assert "--dashboard-host" not in head
    assert node.endswith("python -m cluster.start join $RAY_HEAD_IP:6379 --once")
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert all("chmod 600 ~/.ray/auth_token" in command for command in (head, node))


@pytest.mark.parametrize("cloud", CLOUDS)
def test_autoscaler_takes_spot_first_and_on_demand_where_there_is_none(cloud):
    assert launched(cloud, trials=3) == {"gpu-spot": 3}
    assert launched(cloud, trials=30) == {"gpu-spot": 8}
    assert launched(cloud, trials=3, lacking="gpu-spot") == {"gpu-on-demand": 3}


def launched(cloud: str, trials: int, lacking: str | None = None) -> dict[str, int]:
    """Nodes by type that Ray's autoscaler launches for so many trials; `lacking` could not be had a moment ago."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = AutoscalingConfig(prepared(cloud), skip_content_hash=True)
    requests = [ResourceRequestUtil.make({"CPU": 1, "GPU": 1})] * trials
    reply = ResourceDemandScheduler().schedule(
        SchedulingRequest(
            disable_launch_config_check=True,
            node_type_configs=config.get_node_type_configs(),
            max_num_nodes=config.get_max_num_nodes() - 1,  # without the head
            resource_requests=ResourceRequestUtil.group_by_count(requests),
            recoverable_resource_availabilities={lacking: 0.0} if lacking else {},
        )
    )
    return {request.instance_type: request.count for request in reply.to_launch}


def instructions(containerfile: Path) -> list[tuple[str, str]]:
    """(instruction, what stands behind it) of a container file, continued lines joined."""
    lines = [line for line in containerfile.read_text().splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines()]


def test_container_file_copies_what_is_there_and_its_commands_are_shell():
    found = instructions(CLUSTER / "Containerfile")
    assert {name for name, _ in found} <= {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "USER", "ENV"}
    copied = [words.split()[:-1] for name, words in found if name == "COPY" and "--from" not in words]
    assert ["samplernn"] in copied
    for source in {source for sources in copied for source in sources}:
        assert (CLUSTER.parent / source).exists(), source
    commands = [words for name, words in found if name == "RUN"]
    assert any("requirements.lock" in command and "--require-hashes" in command for command in commands)
    for command in commands:
        linted(
            f"export DEVICE=cpu\n{command}\n", "--shell=sh", "--exclude=SC2086"
        )  # an option that may be empty
    assert ("USER", "1000") in found


def test_aws_nodes_are_launched_as_the_template_says(tmp_path, monkeypatch):
    """Ray's own bootstrap and node provider, on an EC2 that is moto's."""
    moto = pytest.importorskip("moto", reason="no EC2: pip install moto")
    import boto3
    from ray.autoscaler._private.aws import config as aws_config
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
    from ray.autoscaler._private.util import prepare_config

    monkeypatch.setenv("HOME", str(tmp_path))  # Ray makes a key pair in ~/.ssh
    (tmp_path / ".ssh").mkdir()
    with moto.mock_aws():
        for name in ("samplernn-head", "samplernn-node"):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        ec2 = boto3.client("ec2", region_name="us-east-1")
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        asked = prepare_config(filled_in(CLUSTER / "aws" / "cluster.yaml", YOUR_AMI=image))
        config = aws_config.bootstrap_aws(asked)
        provider = AWSNodeProvider(config["provider"], config["cluster_name"])
        for name, kind in config["available_node_types"].items():
            provider.create_node(kind["node_config"], {"ray-user-node-type": name}, 1)
        made = {}
        for reservation in ec2.describe_instances()["Reservations"]:
            for node in reservation["Instances"]:
                tags = {tag["Key"]: tag["Value"] for tag in node["Tags"]}
                profile = node["IamInstanceProfile"]["Arn"].rpartition("/")[2]
                made[tags["ray-user-node-type"]] = (
                    node["InstanceType"], node.get("InstanceLifecycle", "on demand"), profile,
                )  # fmt: skip
                assert node["ImageId"] == image
                assert [group["GroupName"] for group in node["SecurityGroups"]] == ["samplernn"]
        rules = ec2.describe_security_groups(GroupNames=["samplernn"])["SecurityGroups"][0]["IpPermissions"]
    assert made == {
        "head": ("m7i.large", "on demand", "samplernn-head"),
        "gpu-spot": ("g6.2xlarge", "spot", "samplernn-node"),
        "gpu-on-demand": ("g6.2xlarge", "on demand", "samplernn-node"),
    }
    from_outside = [rule for rule in rules if rule.get("IpRanges")]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in from_outside] == [(22, 22)]
