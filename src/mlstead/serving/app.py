"""The Open Inference Protocol v2 over REST, as a bare ASGI application.

Every path the server knows is made from its own model and version names and kept in one table;
a request's path is only ever looked up there as the bytes that came, never decoded, never split,
never used as the name of a file.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import orjson

from mlstead.serving.body import Receive, read_body
from mlstead.serving.guard import Guard
from mlstead.serving.metrics import CONTENT_TYPE
from mlstead.serving.problem import AnswerError
from mlstead.serving.service import Service, Slot

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

_JSON: Header = (b"content-type", b"application/json")
_TEXT: Header = (b"content-type", CONTENT_TYPE)
_CLOSE: Header = (b"connection", b"close")
_log = logging.getLogger("mlstead.serving")


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, ready to be sent."""

    body: bytes
    status: int = 200
    headers: tuple[Header, ...] = (_JSON,)


@dataclass(frozen=True, slots=True)
class Route:
    """What stands behind a path: a page to read, or a version to ask (None: by traffic)."""

    page: Callable[[], Reply] | None = None
    slot: Slot | None = None

    @property
    def methods(self) -> bytes:
        return b"GET, HEAD" if self.page else b"POST"


def json_reply(value: object, status: int = 200) -> Reply:
    """Make a JSON answer."""
    return Reply(orjson.dumps(value), status)


class App:
    """The ASGI application of one service.

    Attributes:
        draining: set when the server is about to stop: not ready, and connections are closed
            after their answer, so that clients go to the next generation.
    """

    def __init__(self, service: Service, guard: Guard, release: str) -> None:
        self.draining = False
        self._service = service
        self._guard = guard
        self._release = release
        self._routes = self._table()

    @property
    def versions(self) -> list[str]:
        """The versions that are loaded."""
        return list(self._service.slots)

    def _table(self) -> dict[bytes, Route]:
        service = self._service
        root = f"/v2/models/{service.name}"
        routes = {
            "/v2": Route(self._about),
            "/v2/health/live": Route(lambda: json_reply({"live": True})),
            "/v2/health/ready": Route(self._ready),
            "/metrics": Route(lambda: Reply(service.metrics.text(), headers=(_TEXT,))),
            f"{root}/stats": Route(lambda: json_reply(service.stats())),
            f"{root}/infer": Route(),
        }
        self._describe(routes, root, service.slots[service.traffic.main])
        for name, slot in service.slots.items():
            place = f"{root}/versions/{name}"
            self._describe(routes, place, slot)
            routes[f"{place}/infer"] = Route(slot=slot)
        return {path.encode(): route for path, route in routes.items()}

    def _describe(self, routes: dict[str, Route], place: str, slot: Slot) -> None:
        about = json_reply(slot.model.describe(list(self._service.slots)))
        routes[place] = Route(lambda: about)
        routes[f"{place}/ready"] = Route(self._ready)

    def _about(self) -> Reply:
        return json_reply({"name": "mlstead", "version": self._release, "extensions": []})

    def _ready(self) -> Reply:
        name = self._service.name
        return json_reply({"name": name, "ready": not self.draining}, 503 if self.draining else 200)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        try:
            reply = await self._reply(scope, receive)
        except AnswerError as problem:
            reply = _refusal(problem)
        except Exception:
            _log.exception("a request failed")
            reply = _refusal(AnswerError(500, "the server failed; its log says why"))
        headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
        if self.draining:
            headers.append(_CLOSE)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        started = perf_counter()
        headers = dict(scope["headers"])
        self._guard.check(headers.get(b"host", b""), headers.get(b"origin", b""))
        route = self._routes.get(scope.get("raw_path") or b"")
        if route is None:
            raise AnswerError(404, self._known())
        method = scope["method"]
        if route.page and method in ("GET", "HEAD"):
            return route.page()
        if route.page or method != "POST":
            refusal = _refusal(AnswerError(405, f"allowed here: {route.methods.decode()}"))
            return Reply(refusal.body, 405, (_JSON, (b"allow", route.methods)))
        return await self._infer(route.slot, headers, receive, started)

    async def _infer(
        self, slot: Slot | None, headers: dict[bytes, bytes], receive: Receive, started: float
    ) -> Reply:
        service = self._service
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise AnswerError(415, "compressed bodies are not supported")
        if b"inference-header-content-length" in headers:
            raise AnswerError(415, "binary tensors are not supported; send JSON")
        if slot is None:
            slot = service.slots[service.traffic.pick()]
        service.enter(slot)
        try:
            body = await _body(slot, headers, receive, service.limits.body)
            answer = await service.infer(slot, body, started)
        finally:
            service.leave()
        return Reply(answer.body)

    def _known(self) -> str:
        names = ", ".join(self._service.slots)
        return f"nothing here; this server has model {self._service.name}, versions {names}"


async def _body(slot: Slot, headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    stated, expects = headers.get(b"content-length", b""), b"expect" in headers
    try:
        return await read_body(receive, stated, expects, limit)
    except AnswerError as problem:
        slot.tally.refuse(problem.status)
        raise


def _refusal(problem: AnswerError) -> Reply:
    headers: tuple[Header, ...] = (_JSON,)
    if problem.status == 503:
        headers = (_JSON, (b"retry-after", b"1"))
    elif problem.status in (408, 413):
        headers = (_JSON, _CLOSE)  # what is left of the body is not read
    return Reply(orjson.dumps({"error": str(problem)}), problem.status, headers)
