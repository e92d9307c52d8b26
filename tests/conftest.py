"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def ray_local():
    """A private Ray of two CPUs on this machine, started once for the whole session."""
    ray = pytest.importorskip("ray")
    from cluster.connect import connect

    ray.shutdown()
    with connect():
        yield ray
