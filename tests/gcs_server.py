"""A Google Cloud Storage of one's own for tests: an emulator on a free port of the loopback, its own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs as pafs
import pytest

from tests.server_process import server_process

_SERVER = """
import sys
from http import server

server.HTTPServer = server.ThreadingHTTPServer  # the emulator's own serves one connection at a time
from gcp_storage_emulator.server import create_server

emulator = create_server("127.0.0.1", 0, in_memory=True)
emulator.start()
print(emulator._api._httpd.server_port, flush=True)
sys.stdin.read()
emulator.stop()
"""


@contextmanager
def gcs_server() -> Iterator[str]:
    """The server's endpoint; it asks for no credentials."""
    pytest.importorskip("gcp_storage_emulator", reason="no GCS server: pip install gcp-storage-emulator")
    with server_process(_SERVER) as port:
        yield f"127.0.0.1:{port}"


def uri(endpoint: str, path: str) -> str:
    """gs:// URI with its endpoint, so that Ray's workers reach it though they were started before it."""
    return f"gs://anonymous@{path}?endpoint_override={endpoint}&scheme=http&retry_limit_seconds=5"


def bucket(endpoint: str, name: str) -> pafs.GcsFileSystem:
    """A file system of the server, with a new bucket."""
    gcs = pafs.GcsFileSystem(anonymous=True, endpoint_override=endpoint, scheme="http", project_id="test")
    gcs.create_dir(name)
    return gcs
