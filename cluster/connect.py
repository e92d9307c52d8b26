"""The one place that starts or joins Ray.

`connect` joins the cluster of an address ($RAY_ADDRESS, which `ray job submit` sets) or starts a private one on this
machine: loopback only, no dashboard, token authentication as Ray sets it up for local clusters, no usage reports.

What is set here reaches this process and what it starts, not the workers of a cluster that someone else started.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray's own loggers, snapshots and checks are a cache that may be lost: the workspace is the truth.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    # A task that asks for no GPU must see none.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    # Workers outlive a killed driver's cluster by no more than this.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
}
# Read when Ray is imported. Who waits for a worker or a node says that it died, not Ray in the midst of a live view.
os.environ.setdefault(
    "RAY_DEDUP_LOGS_SKIP_REGEX", "A worker died or was killed|Raylet is terminated|The node with node id"
)
# Ray writes each of its attempts to join a cluster on the screen; the error says it once.
_QUIET_JOINING = {"RAY_BACKEND_LOG_LEVEL": "error", "RAY_NUM_REDIS_GET_RETRIES": "5"}
_OBJECT_STORE = 256 * 2**20
_ANSWER_S = 10.0
_KNOCK_S = 2.0
_HEAD = "node:__internal_head__"
"""A resource that Ray gives to the head alone."""


class Unreachable(Exception):
    """The cluster at an address does not answer or refuses; the message says what to do."""


@contextmanager
def connect(address: str | None = None) -> Iterator[None]:
    """Ray for the length of a with block; a cluster that was already initialised is used and left alone.

    Raises Unreachable when the cluster at the address can't be joined.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address != "local":
        _join(address)
    else:
        _start()
    if threading.current_thread() is threading.main_thread():
        # Ray's own handler prints a stack and dies; a polite end (a spot notice, `kill`) is the same as Ctrl-C.
        signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    for noisy in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    """Start a private cluster; Ray gives its own processes 30 s, which a machine under load may exceed: try again."""
    import psutil
    import ray

    before = set(psutil.Process().children(recursive=True))
    for last in (False, False, True):
        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                num_cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
                object_store_memory=_OBJECT_STORE,
            )
            return
        except Exception as error:  # Ray raises no narrower class
            if "timed out" not in str(error):
                raise
            for child in set(psutil.Process().children(recursive=True)) - before:
                child.kill()
            if last:
                raise Unreachable(
                    f"Ray did not start on this machine in three tries ({error}); it may be overloaded: end other "
                    "work and run the same command again"
                ) from error
            sys.stderr.write("Ray took more than 30 s to start (is this machine busy?); trying again\n")


def _join(address: str) -> None:
    for name, value in _QUIET_JOINING.items():
        os.environ.setdefault(name, value)
    import ray
    from ray.exceptions import AuthenticationError

    _knock(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (AuthenticationError, ConnectionError) as error:
        raise Unreachable(
            f"the Ray cluster at {address} can't be joined: {error}; where it wants a token, set RAY_AUTH_MODE=token "
            "and RAY_AUTH_TOKEN_PATH to the cluster's token file"
        ) from error


def _knock(address: str) -> None:
    """Raises Unreachable when nobody listens at host:port; Ray itself tries for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except OSError as error:
        raise Unreachable(
            f"no Ray cluster answers at {address}: {error}; start it (cluster/README.md), or unset RAY_ADDRESS to "
            "work on this machine alone"
        ) from error


def resources() -> dict[str, float]:
    """What the whole cluster has: CPU, GPU, memory (bytes) ..."""
    import ray

    return dict(ray.cluster_resources())


@dataclass(frozen=True)
class Node:
    """A node that is alive."""

    id: str
    resources: dict[str, float]
    """Everything it has, in use or not: CPU, GPU ..."""
    is_head: bool


def alive_nodes() -> list[Node]:
    """Every node of the cluster that is alive."""
    import ray

    return [
        Node(node["NodeID"], node["Resources"], _HEAD in node["Resources"])
        for node in ray.nodes()
        if node["Alive"]
    ]


def node_answers(node: str) -> bool:
    """Whether a node's raylet is alive: a node that dies is told of by its actors before the cluster notices itself."""
    import ray

    for each in ray.nodes():
        if each["NodeID"] == node:
            where = (each["NodeManagerAddress"], each["NodeManagerPort"])
            try:
                socket.create_connection(where, _KNOCK_S).close()
            except OSError:
                return False
            return bool(each["Alive"])
    return False
