"""Both ends of W&B for tests: a reader of .wandb files, and a server with just enough of its protocol."""

from __future__ import annotations

import gzip
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from wandb.proto import wandb_internal_pb2

BLOCK = 32_768
KEY = "canary" + "0123456789" * 4
"""The login of the tests' server."""


def log_out(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """A machine without a login or any setting of W&B, as far as this process and its children see."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("NETRC", raising=False)


def records(path: Path) -> Iterator[Any]:
    """Every Record of a .wandb file: a 7-byte header, then LevelDB log blocks of checksummed pieces."""
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    at, whole = 7, b""
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack("<IHB", data[at : at + 7])
        piece = data[at + 7 : at + 7 + length]
        assert checksum == zlib.crc32(piece, zlib.crc32(bytes([kind]))), "damaged .wandb file"
        whole += piece
        at += 7 + length
        if kind in (1, 4):  # FULL, LAST
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def history_of(path: Path) -> list[dict[str, Any]]:
    """The history rows of a .wandb file, in order."""
    rows = []
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row: dict[str, Any] = {}
            for item in record.history.item:
                *above, key = item.nested_key
                at = row
                for name in above:
                    at = at.setdefault(name, {})
                at[key] = json.loads(item.value_json)
            rows.append(row)
    return rows


class Server(ThreadingHTTPServer):
    """Keeps the runs that it was sent; `answer` is ok, 429, hang or die."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = "ok"
        self.history: dict[str, list[str]] = {}
        self.configs: dict[str, dict[str, Any]] = {}
        self.uploads: dict[str, bytes] = {}
        self.views: list[dict[str, Any]] = []
        self.artifacts: dict[str, list[dict[str, Any]]] = {}
        self.requests = 0
        self.closing = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no fault of ours."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def rows(self, run: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.history[run]]


@contextmanager
def serving() -> Iterator[Server]:
    """A server for the length of a with block."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: object) -> None:
        pass

    def do_PUT(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests += 1
        if self.server.answer == "hang":
            self.server.closing.wait(60)
            self.close_connection = True
            return
        if self.server.answer == "die":
            self.close_connection = True
            return
        status, answer = (429, {}) if self.server.answer == "429" else (200, self._answer(body))
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, body: bytes) -> dict[str, Any]:
        if self.path.startswith("/upload/"):
            self.server.uploads[self.path.removeprefix("/upload/")] = body
            return {}
        if self.path.endswith("/file_stream"):
            self._stream(self.path.split("/")[4], json.loads(body))
            return {}
        asked = json.loads(body)
        return {"data": self._graphql(asked["query"], asked.get("variables") or {})}

    def _stream(self, run: str, sent: dict[str, Any]) -> None:
        chunk = sent.get("files", {}).get("wandb-history.jsonl")
        if chunk is not None:
            lines, offset = self.server.history.setdefault(run, []), chunk["offset"]
            lines[offset : offset + len(chunk["content"])] = chunk["content"]

    def _graphql(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        project = {"id": "P", "name": variables.get("project"), "entity": {"id": "E", "name": "band"}}
        run = variables.get("name")
        lines = self.server.history.get(run or "", [])
        if "UpsertBucket" in query and variables.get("config"):
            self.server.configs[run or ""] = json.loads(variables["config"])
        config = json.dumps(self.server.configs.get(run or "", {}))
        bucket = {"id": f"id-{run}", "name": run, "displayName": run, "config": config,
                  "wandbConfig": '{"t": {}}', "summaryMetrics": "{}",
                  "historyLineCount": len(lines), "logLineCount": 0, "eventsLineCount": 0, "tags": [],
                  "historyTail": json.dumps(lines[-1:]), "eventsTail": "[]", "project": project}  # fmt: skip
        if "RunResumeStatus" in query:
            return {"model": {**project, "bucket": bucket if run in self.server.configs else None}}
        if "UpsertBucket" in query:
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "CreateRunFiles" in query:
            run = variables["run"]
            files = [
                {"name": f, "uploadUrl": f"{self.server.url}/upload/{run}/{f}"} for f in variables["files"]
            ]
            return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}
        if "query Viewer" in query:
            return {"viewer": {"id": "V", "entity": "band", "username": "band", "email": "", "flags": "{}",
                               "teams": {"edges": []}}}  # fmt: skip
        if "query ArtifactType" in query:
            return {"project": None}
        if "upsertView" in query:
            self.server.views.append(variables)
            return {"upsertView": {"view": {"id": "V", "name": "nw-v"}, "inserted": True}}
        return self._artifact(query, variables)

    def _artifact(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Artifacts are kept by their names; their manifests and files are uploads."""
        if "mutation CreateArtifact (" in query:
            sent = variables["input"]
            name = sent["artifactCollectionName"]
            versions = self.server.artifacts.setdefault(name, [])
            versions.append(sent)
            artifact = {"id": f"{name}-{len(versions)}", "state": "PENDING", "artifactSequence": {}}
            return {"createArtifact": {"artifact": artifact}}
        if "CreateArtifactManifest" in query:
            place = f"manifest/{variables['artifactID']}"
            url = f"{self.server.url}/upload/{place}"
            file = {"id": place, "name": place, "displayName": place, "uploadUrl": url, "uploadHeaders": []}
            return {"createArtifactManifest": {"artifactManifest": {"id": place, "file": file}}}
        if "CreateArtifactFiles" in query:
            edges = [{"node": {**spec, "id": spec["name"], "displayName": spec["name"], "uploadHeaders": [],
                               "storagePath": spec["name"], "artifact": {"id": spec["artifactID"]},
                               "uploadUrl": f"{self.server.url}/upload/{spec['artifactID']}/{spec['name']}"}}
                     for spec in variables["input"]["artifactFiles"]]  # fmt: skip
            return {"createArtifactFiles": {"files": {"edges": edges}}}
        if "CommitArtifact" in query:
            return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}
        return {}


def wait_for(what: Any, seconds: float = 20.0) -> None:
    """Look again and again until `what()` is true."""
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)
