"""An S3 of one's own for tests: moto's server on a free port of the loopback, in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs as pafs
import pytest

from tests.server_process import server_process

_SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def s3_server() -> Iterator[str]:
    """The server's endpoint; KEYS, which conftest.py puts into the environment of every test, open it."""
    pytest.importorskip("moto", reason="no S3 server: pip install 'moto[server]'")
    with server_process(_SERVER) as port:
        yield f"http://127.0.0.1:{port}"


def uri(endpoint: str, path: str) -> str:
    """s3:// URI with its endpoint, so that Ray's workers reach it though they were started before it."""
    return f"s3://{path}?endpoint_override={endpoint.removeprefix('http://')}&scheme=http&region=us-east-1"


def bucket(endpoint: str, name: str) -> pafs.S3FileSystem:
    """A file system of the server, with a new bucket."""
    s3 = pafs.S3FileSystem(region="us-east-1", endpoint_override=endpoint, allow_bucket_creation=True)
    s3.create_dir(name)
    return s3
