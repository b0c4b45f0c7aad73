"""The protocol over REST, without sockets: endpoints, refusals, limits, the queue."""

import asyncio
import json
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlstead.serving import body as body_module

IDENTITY = [[1.0]]
INFER = "/v2/models/fashion/infer"
ONE = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
TRAVERSALS = [
    "/v2/models/../../etc/passwd",
    "/v2/models/fashion/versions/../../../etc/passwd",
    "/v2/models/fashion/versions/..",
    "/v2/models/fashion/versions/%2e%2e/infer",
    "/v2/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/v2/models/fashion/versions/%252e%252e/infer",
    "/v2/models/fashion;/infer",
    "/v2/models/fashion;v1/versions/v1",
    "/v2/models/fashion#/infer",
    "/v2/models/fashion%23/infer",
    "//proc/self/root/v2",
    "//v2",
    "/v2//models/fashion",
    "/proc/self/root",
    "/v2/models/fashion/versions//proc/self/root",
    "/v2/models/fashion/versions/v1%00/infer",
    "/v2/models/fashion\x00/infer",
    "/v2/models/fashion\\..\\..\\etc",
    "/v2/models/fashion/versions/..\\v1",
    "/v2/models/fashion/versions/%5c..%5c/infer",
    "/v2/models/file:///etc/passwd",
    "/v2/models/FASHION/infer",
    "/v2/models/fashi%6fn/infer",
    "/v2/models/fashion/infer/",
    "/v2/models/fashion/versions/v1/../v1/infer",
    "/v2/models/fashion/versions/v9/infer",
    "/v2/models/nothing/infer",
    "/v2/models/\xff/infer",
    "",
    "/",
    "*",
]


@pytest.fixture
def asker(serve: Any, folders: Any) -> Any:
    folder = folders.scores(IDENTITY)
    return serve({"v1": folder, "v2": folder}, traffic={"v1": 75, "v2": 25})


def test_health_and_metadata_answer(asker: Any) -> None:
    assert asker("GET", "/v2/health/live").json == {"live": True}
    for path in (
        "/v2/health/ready",
        "/v2/models/fashion/ready",
        "/v2/models/fashion/versions/v2/ready",
    ):
        said = asker("GET", path)
        assert (said.status, said.json["ready"]) == (200, True)
    assert asker("GET", "/v2").json["extensions"] == []
    assert asker("GET", "/v2/models/fashion?x=1").json["versions"] == ["v1", "v2"]
    assert asker("HEAD", "/v2/health/live").status == 200


def test_a_draining_server_is_live_but_not_ready_and_closes_connections(asker: Any) -> None:
    asker.app.draining = True
    assert asker("GET", "/v2/health/live").status == 200
    assert asker("GET", "/v2/health/ready").status == 503
    answer = asker("POST", INFER, ONE)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def test_unversioned_requests_follow_the_traffic_and_name_their_version(asker: Any) -> None:
    versions = Counter(asker("POST", INFER, ONE).json["model_version"] for _ in range(100))
    assert versions == {"v1": 75, "v2": 25}


def test_a_version_in_the_path_is_asked_whatever_the_traffic(asker: Any) -> None:
    said = asker("POST", "/v2/models/fashion/versions/v2/infer", ONE).json
    assert said["model_version"] == "v2"
    stats = asker("GET", "/v2/models/fashion/stats").json
    assert stats["versions"]["v1"]["requests"] == 0
    assert stats["versions"]["v2"]["requests"] == 1
    assert stats["versions"]["v2"]["p50_ms"] > 0


def test_metrics_count_requests_and_errors_per_version(asker: Any) -> None:
    asker("POST", "/v2/models/fashion/versions/v1/infer", ONE)
    asker("POST", "/v2/models/fashion/versions/v1/infer", b"{")
    answer = asker("GET", "/metrics")
    text = answer.body.decode()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'mlstead_requests_total{model="fashion",version="v1"} 2.0' in text
    assert 'mlstead_errors_total{code="400",model="fashion",version="v1"} 1.0' in text
    assert 'mlstead_requests_total{model="fashion",version="v2"} 0.0' in text


@pytest.mark.parametrize("path", TRAVERSALS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_paths_are_looked_up_and_never_walked(asker: Any, method: str, path: str) -> None:
    said = asker(method, path, ONE)
    assert said.status == 404
    assert list(said.json) == ["error"]
    assert b"root:" not in said.body


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(st.characters(max_codepoint=255), max_size=60))
def test_any_other_path_is_not_found(asker: Any, path: str) -> None:
    said = asker("GET", "/v2/models/fashion/versions/" + path)
    assert said.status == (200 if path.partition("?")[0] in ("v1", "v2") else 404) or path == ""


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe",
        b'{"inputs": 1}',
        b'{"inputs": []}',
        b'{"inputs": [1]}',
        b'{"inputs": [{"name": 1}]}',
        b'{"inputs": [{"name": "x"}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [NaN]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1e999]}]}',
        json.dumps({**ONE, "id": 7}).encode(),
        json.dumps({**ONE, "outputs": "scores"}).encode(),
        json.dumps({**ONE, "outputs": ["scores"]}).encode(),
        json.dumps({"inputs": ONE["inputs"] * 2}).encode(),
        json.dumps({"inputs": ONE["inputs"] * 65}).encode(),
        b"[" * 100_000,
    ],
)
def test_malformed_requests_are_refused_in_one_line(asker: Any, body: bytes) -> None:
    said = asker("POST", INFER, body)
    assert said.status == 400
    assert list(said.json) == ["error"]
    assert "\n" not in said.json["error"]


@given(body=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_an_answer_or_a_refusal(asker: Any, body: bytes) -> None:
    assert asker("POST", INFER, body).status == 400


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", INFER, "POST"),
        ("PUT", INFER, "POST"),
        ("POST", "/v2", "GET, HEAD"),
        ("DELETE", "/v2/models/fashion", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(
    asker: Any, method: str, path: str, allow: str
) -> None:
    said = asker(method, path)
    assert (said.status, said.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"content-encoding": "gzip"}, 415),
        ({"inference-header-content-length": "10"}, 415),
        ({"content-length": "many"}, 400),
    ],
)
def test_headers_decide_who_may_ask_and_how(
    asker: Any, headers: dict[str, str], status: int
) -> None:
    assert asker("POST", INFER, ONE, headers).status == status


def test_a_body_that_says_it_is_too_long_is_refused(serve: Any, folders: Any) -> None:
    asker = serve({"v1": folders.scores(IDENTITY)}, limits={"body": 1000})
    said = asker("POST", INFER, b"x" * 1001)
    assert (said.status, said.headers["connection"]) == (413, "close")
    assert asker("GET", "/v2/models/fashion/stats").json["errors"] == 1


def test_a_body_far_too_long_or_announced_is_refused_unread(serve: Any, folders: Any) -> None:
    asker = serve({"v1": folders.scores(IDENTITY)}, limits={"body": 1000})
    assert asker("POST", INFER, b"", {"content-length": "999999999999"}).status == 413
    announced = {"content-length": "1001", "expect": "100-continue"}
    assert asker("POST", INFER, b"", announced).status == 413
    assert asker.received == 0


def test_a_body_without_length_is_cut_off_at_the_limit(serve: Any, folders: Any) -> None:
    asker = serve({"v1": folders.scores(IDENTITY)}, limits={"body": 1000})
    assert asker("POST", INFER, [b"x" * 300] * 1000).status == 413
    assert asker.received < 20_000
    whole = json.dumps(ONE).encode()
    assert asker("POST", INFER, [whole[:9], whole[9:30], whole[30:]]).status == 200


def test_a_body_that_never_ends_is_given_up(asker: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "READ_SECONDS", 0.01)

    async def ask() -> list[int]:
        sent: list[Any] = []
        first = True

        async def receive() -> dict[str, Any]:
            nonlocal first
            if not first:
                await asyncio.Event().wait()
            first = False
            return {"type": "http.request", "body": b"{", "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "method": "POST", "raw_path": INFER.encode(), "headers": headers}
        await asker.app(scope, receive, send)
        return [sent[0]["status"]]

    assert asyncio.run(ask()) == [408]


SLOW = """
import threading
release, started = threading.Event(), threading.Event()
def predict(inputs):
    started.set()
    assert release.wait(60)
    return inputs
"""


def test_a_slow_model_blocks_neither_health_nor_refusals_and_its_queue_is_bounded(
    serve: Any, folders: Any
) -> None:
    folder = folders.card(runtime="python", entry="user_slow:predict")
    code = str(folders.code(SLOW, "user_slow"))
    asker = serve({"v1": folder}, code=code, limits={"queue": 4})
    slow = __import__("user_slow")

    async def ask() -> None:
        waiting = [asyncio.ensure_future(asker.ask("POST", INFER, ONE)) for _ in range(4)]
        while not slow.started.is_set():
            await asyncio.sleep(0)
        assert (await asker.ask("GET", "/v2/health/ready")).status == 200
        full = await asker.ask("POST", INFER, ONE)
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert (await asker.ask("GET", "/v2/models/fashion/stats")).json["queue"] == 4
        slow.release.set()
        assert [one.status for one in await asyncio.gather(*waiting)] == [200] * 4
        assert (await asker.ask("POST", INFER, ONE)).status == 200

    try:
        asyncio.run(ask())
    finally:
        slow.release.set()
    assert asker("GET", "/v2/models/fashion/stats").json["errors"] == 1


def test_places_in_the_queue_are_given_back_after_every_kind_of_refusal(
    serve: Any, folders: Any
) -> None:
    asker = serve({"v1": folders.scores(IDENTITY)}, limits={"queue": 1, "body": 1000})
    for _ in range(3):
        assert asker("POST", INFER, b"{").status == 400
        assert asker("POST", INFER, b"x" * 2000).status == 413
        assert asker("POST", INFER, ONE).status == 200


def test_an_error_of_the_server_itself_is_one_line_and_counted(
    asker: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mlstead.serving.model.parse", lambda body: 1 / 0)
    said = asker("POST", INFER, ONE)
    assert (said.status, said.json) == (500, {"error": "the server failed; its log says why"})
    assert "ZeroDivisionError" in caplog.text
    assert asker("GET", "/v2/models/fashion/stats").json["errors"] == 1


def test_no_thread_is_left_by_a_service_that_was_closed(serve: Any, folders: Any) -> None:
    before = set(threading.enumerate())
    asker = serve({"v1": folders.scores(IDENTITY)})
    assert asker("POST", INFER, ONE).status == 200
    added = set(threading.enumerate()) - before
    assert added
    asker.service.close()
    for thread in added:
        thread.join(60)
        assert not thread.is_alive()
