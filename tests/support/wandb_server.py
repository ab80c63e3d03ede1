"""A W&B server as far as parbench needs one: runs that can be resumed, their history, files and tables; on this machine only."""

from __future__ import annotations

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef" * 2 + "deadbeef"
_PROJECT = {"name": "parbench", "entity": {"name": "me"}}
_VIEWER = {
    "id": "u1",
    "username": "me",
    "entity": "me",
    "email": "me@example.org",
    "flags": "{}",
    "teams": {"edges": []},
    "apiKeys": {"edges": []},
    "admin": False,
    "name": "Me",
    "deletedAt": None,
}
_ARTIFACT = "QXJ0aWZhY3Q6MQ=="
_MANIFEST = {
    "version": 1,
    "storagePolicy": "wandb-storage-policy-v1",
    "storagePolicyConfig": {"storageLayout": "V2"},
    "contents": {"samples.table.json": {"digest": "ZGlnZXN0", "size": 1, "birthArtifactID": _ARTIFACT}},
}


class WandbServer:
    """Listens on a free port while it is open.

    Attributes:
        runs: By id: ``config``, ``history`` (the lines as they were streamed), ``summary``, ``files`` (name to bytes), ``upserts``.
        refuse: Status that every request gets, or None; ``"silence"`` for no answer at all.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.refuse: int | str | None = None
        self.talking = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                self.answer(lambda _: _MANIFEST)

            def do_PUT(self) -> None:
                self.answer(lambda body: server.keep(self.path, body))

            def do_POST(self) -> None:
                self.answer(lambda body: server.graphql(body) if self.path == "/graphql" else server.stream(self.path, body))

            def answer(self, give: Any) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                if server.refuse == "silence":
                    server.talking.wait()
                status = server.refuse if isinstance(server.refuse, int) else 200
                said = json.dumps(give(body) if status == 200 else {"errors": [{"message": "no"}]}).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that goes away is none of our business."""

        self.http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def reset(self) -> None:
        """As new; whoever waits for an answer gets one."""
        self.runs, self.refuse = {}, None
        self.talking.set()
        self.talking = threading.Event()

    def close(self) -> None:
        self.talking.set()
        self.http.shutdown()
        self.http.server_close()

    def run(self, name: str) -> dict[str, Any]:
        return self.runs.setdefault(name, {"config": {}, "history": [], "summary": {}, "files": {}, "upserts": []})

    def keep(self, path: str, body: bytes) -> dict[str, Any]:
        _, _, name, file = path.split("/", 3)
        self.run(name)["files"][file] = body
        return {}

    def stream(self, path: str, body: bytes) -> dict[str, Any]:
        run = self.run(path.split("/")[4])
        for file, part in json.loads(body).get("files", {}).items():
            if file == "wandb-history.jsonl":
                del run["history"][part["offset"] :]
                run["history"] += [json.loads(line) for line in part["content"]]
            elif file == "wandb-summary.json":
                run["summary"] = json.loads(part["content"][-1])
        return {"exitcode": None, "limits": {}}

    def graphql(self, body: bytes) -> dict[str, Any]:
        asked = json.loads(body)
        query, about = asked["query"], asked.get("variables") or {}
        named = re.match(r"\s*(?:query|mutation)\s+(\w+)", query)
        name = named[1] if named else ""
        found = getattr(self, f"_{name}", None)
        if found:
            return {"data": found(about)}
        return {"data": {"viewer": _VIEWER}} if "viewer" in query else {"data": {}}

    def _ServerFeaturesQuery(self, _: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def _RunResumeStatus(self, about: Any) -> Any:
        run = self.runs.get(about["name"])
        if not run:
            return {"model": None}
        tail = json.dumps([json.dumps(line) for line in run["history"][-1:]])
        bucket = {
            "id": "b1",
            "name": about["name"],
            "summaryMetrics": json.dumps(run["summary"]),
            "displayName": "x",
            "logLineCount": 0,
            "historyLineCount": len(run["history"]),
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "config": json.dumps(run["config"]),
            "tags": [],
            "notes": None,
            "wandbConfig": '{"t": 1}',
        }
        return {"model": {"id": "p1", **_PROJECT, "bucket": bucket}}

    def _UpsertBucket(self, about: Any) -> Any:
        run = self.run(about["name"])
        run["upserts"].append(about)
        if about.get("config"):
            run["config"] = json.loads(about["config"])
        bucket = {
            "id": "b1",
            "name": about["name"],
            "displayName": about.get("displayName") or "x",
            "description": "",
            "config": "{}",
            "sweepName": None,
            "project": {"id": "p1", **_PROJECT},
            "historyLineCount": len(run["history"]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, about: Any) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.url}/up/{about['run']}/{name}"} for name in about["files"]]
        return {"createRunFiles": {"runID": about["run"], "uploadHeaders": [], "files": files}}

    def _RunUploadUrls(self, about: Any) -> Any:
        edges = [
            {"node": {"name": name, "url": f"{self.url}/up/{about['run']}/{name}", "updatedAt": None}} for name in about["files"]
        ]
        return {"model": {"bucket": {"id": about["run"], "files": {"uploadHeaders": [], "edges": edges}}}}

    def _InputFields(self, _: Any) -> Any:
        return {"TypeInfo": {"inputFields": [{"name": name} for name in ("entityName", "projectName", "runName", "digest")]}}

    def _ArtifactType(self, _: Any) -> Any:
        return {"project": None}

    def _CreateArtifact(self, _: Any) -> Any:
        latest = {"id": _ARTIFACT, "versionIndex": 0}
        # RunLockedError already, so that nothing of it is sent: tables come as files of the run too.
        made = {
            "id": _ARTIFACT,
            "state": "COMMITTED",
            "digest": "d",
            "artifactSequence": {"id": "s1", "latestArtifact": latest},
        }
        return {"createArtifact": {"artifact": made}}

    def _ArtifactByID(self, _: Any) -> Any:
        return {
            "artifact": {
                "__typename": "Artifact",
                "id": _ARTIFACT,
                "versionIndex": 0,
                "artifactType": {"name": "run_table"},
                "description": None,
                "artifactSequence": {"__typename": "ArtifactSequence", "name": "samples", "project": _PROJECT},
                "metadata": "{}",
                "ttlDurationSeconds": -1,
                "ttlIsInherited": False,
                "tags": [],
                "historyStep": None,
                "state": "COMMITTED",
                "size": 1,
                "digest": "d",
                "commitHash": "c",
                "fileCount": 1,
                "createdAt": "2026-01-01T00:00:00Z",
                "updatedAt": None,
                "aliases": [],
            }
        }

    def _FetchArtifactManifest(self, _: Any) -> Any:
        file = {
            "directUrl": f"{self.url}/manifest",
            "id": "f1",
            "name": "m",
            "url": f"{self.url}/manifest",
            "sizeBytes": 1,
        }
        return {"artifact": {"currentManifest": {"id": "m1", "file": file}}}
