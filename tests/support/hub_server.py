"""A hub for tests: serves repositories from memory by the hub's protocol and remembers which files were asked for."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hub_miniature import blob_name

_LARGE = (".safetensors", ".bin", ".h5", ".parquet")


class HubServer:
    """Serves ``{"models/org/name": (revision, {file: content})}``; use it as a context manager.

    Attributes:
        address: What ``HF_ENDPOINT`` has to be.
        sent: The files whose content was sent, by ``org/name/file``.
    """

    def __init__(self, repositories: Mapping[str, tuple[str, Mapping[str, bytes]]]) -> None:
        self.sent: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def do_GET(self) -> None:
                self._answer(body=True)

            def log_message(self, *arguments: object) -> None:
                pass

            def _answer(self, *, body: bool) -> None:
                path = self.path.partition("?")[0].lstrip("/")
                if found := re.fullmatch(r"api/((?:models|datasets)/[^/]+/[^/]+)/tree/(\w+)", path):
                    self._listing(found[1], found[2])
                elif found := re.fullmatch(r"(datasets/)?([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
                    kind = "datasets" if found[1] else "models"
                    self._file(f"{kind}/{found[2]}", found[3], found[4], body)
                else:
                    self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

            def _listing(self, name: str, revision: str) -> None:
                known, files = repositories.get(name, ("", {}))
                if revision not in (known, "main"):
                    self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
                    return
                entries = []
                for path, content in files.items():
                    entry = {"type": "file", "path": path, "size": len(content), "oid": blob_name("", content)}
                    if path.endswith(_LARGE):
                        entry["lfs"] = {"oid": blob_name(path, content), "size": len(content), "pointerSize": 130}
                    entries.append(entry)
                self._send(200, json.dumps(entries).encode(), {"Content-Type": "application/json"})

            def _file(self, name: str, revision: str, path: str, body: bool) -> None:
                known, files = repositories.get(name, ("", {}))
                if revision not in (known, "main") or path not in files:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                    return
                content = files[path]
                if body:
                    server.sent.append(f"{name.partition('/')[2]}/{path}")
                headers = {"X-Repo-Commit": known, "ETag": f'"{blob_name(path, content)}"'}
                self._send(200, content, headers, body=body)

            def _send(self, code: int, content: bytes, headers: Mapping[str, str], *, body: bool = True) -> None:
                self.send_response(code)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body and self.command == "GET":
                    self.wfile.write(content)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._http.shutdown()
        self._http.server_close()
