"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import signal

import pytest

from tests.gcs_server import gcs_server
from tests.s3_server import KEYS, s3_server

# No test can reach anybody's real buckets; Ray's workers inherit the keys of the tests' own server.
os.environ.update(KEYS)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as `make test &` in a script starts it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def ray_local():
    """A private Ray of two CPUs on this machine, started once for the whole session."""
    ray = pytest.importorskip("ray")
    from cluster.connect import connect

    ray.shutdown()
    with connect():
        yield ray


@pytest.fixture(scope="session")
def s3_endpoint():
    """An S3 on this machine (tests/s3_server.py)."""
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def gcs_endpoint():
    """A Google Cloud Storage on this machine (tests/gcs_server.py)."""
    with gcs_server() as endpoint:
        yield endpoint
