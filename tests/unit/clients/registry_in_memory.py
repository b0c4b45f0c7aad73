"""A registry in memory, behind httpx's mock transport: as much of one as our client asks for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx

from mlstead.clients.registry import sha256


class Shelf:
    """Blobs and manifests of repositories; counts what was uploaded."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads = 0
        self.requests: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request.method)
        found = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/(.+)", request.url.path)
        assert found
        repository, kind, name = found.groups()
        handle = self._manifest if kind == "manifests" else self._blob
        return handle(request, repository, name)

    def keep(self, repository: str, name: str, kind: str, content: bytes) -> None:
        """Keep a manifest under a name, and under its digest."""
        for known in (name, sha256(content)):
            self.manifests[repository, known] = (kind, content)

    def _manifest(self, request: httpx.Request, repository: str, name: str) -> httpx.Response:
        if request.method == "PUT":
            data = json.loads(request.read())
            for row in [data["config"], *data["layers"]]:
                if len(self.blobs.get((repository, row["digest"]), b"")) != row["size"]:
                    said = {"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}
                    return httpx.Response(400, content=iter([json.dumps(said).encode()]))
            kind = request.headers["content-type"]
            self.keep(repository, name, kind, request.read())
            return httpx.Response(201)
        if (repository, name) not in self.manifests:
            return httpx.Response(404)
        kind, content = self.manifests[repository, name]
        headers = {"docker-content-digest": sha256(content), "content-type": kind}
        return httpx.Response(200, headers=headers, content=_body(request, content))

    def _blob(self, request: httpx.Request, repository: str, name: str) -> httpx.Response:
        params = request.url.params
        if request.method == "POST":
            origin = (params.get("from", ""), params.get("mount", ""))
            if origin in self.blobs:
                self.blobs[repository, origin[1]] = self.blobs[origin]
                return httpx.Response(201)
            return httpx.Response(202, headers={"location": f"/v2/{repository}/blobs/uploads/1"})
        if request.method == "PUT":
            self.uploads += 1
            assert sha256(request.read()) == params["digest"]
            self.blobs[repository, params["digest"]] = request.read()
            return httpx.Response(201)
        if (repository, name) not in self.blobs:
            return httpx.Response(404)
        return httpx.Response(200, content=_body(request, self.blobs[repository, name]))


def _body(request: httpx.Request, content: bytes) -> Iterator[bytes]:
    """Give a body that is not read yet, as the network does; none to a HEAD."""
    return iter(() if request.method == "HEAD" else (content,))
