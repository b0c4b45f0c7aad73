"""A cluster's answers are taken as what they mean, and a watch ends when it is told to."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.clients.api_server import ApiServer, Stream, api_server, kubeconfig, running

from mlstead.clients.authority import make_authority
from mlstead.clients.kubernetes import Cluster, ExpiredError
from mlstead.clients.kubernetes_login import read
from mlstead.errors import (
    ConflictError,
    NotFoundError,
    PlatformError,
    UnavailableError,
    UserError,
)

PODS = "/api/v1/namespaces/n/pods"
Made = Callable[..., Cluster]


@pytest.fixture(scope="module")
def shared() -> Iterator[ApiServer]:
    with api_server() as state:
        yield state


@pytest.fixture
def server(shared: ApiServer) -> ApiServer:
    shared.answers((200, {}))
    shared.asked.clear()
    return shared


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(read(kubeconfig(tmp_path, server)))
    yield found
    found.close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give how long was waited between tries, without waiting."""
    waited: list[float] = []
    monkeypatch.setattr("mlstead.clients.kubernetes.time.sleep", waited.append)
    return waited


def status(code: int, message: str, reason: str = "") -> dict[str, Any]:
    return {"kind": "Status", "code": code, "message": message, "reason": reason}


# ---- requests


def test_an_object_is_read_made_changed_and_removed(cluster: Cluster, server: ApiServer) -> None:
    server.answers((200, {"metadata": {"name": "a"}}))
    assert cluster.get(PODS, labelSelector="a=b,!c") == {"metadata": {"name": "a"}}
    cluster.create(PODS, {"kind": "Pod"})
    cluster.merge(f"{PODS}/a", {"spec": None})
    cluster.delete(f"{PODS}/a", grace=0)
    read_, made, changed, removed = server.asked
    assert (read_.method, read_.query) == ("GET", {"labelSelector": "a=b,!c"})
    assert (made.query["fieldManager"], json.loads(made.body)) == ("mlstead", {"kind": "Pod"})
    assert changed.headers["content-type"] == "application/merge-patch+json"
    assert json.loads(removed.body) == {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
    assert all(it.headers["authorization"] == "Bearer s3cret" for it in server.asked)


def test_plain_text_is_read(cluster: Cluster, server: ApiServer) -> None:
    server.answers((200, "ünter\n".encode()))
    assert cluster.text(f"{PODS}/a/log", container="main") == "ünter\n"


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (400, UserError, "the cluster refuses: no such"),
        (401, UserError, "the cluster does not know who we are"),
        (403, UserError, "the cluster refuses: no such"),
        (404, NotFoundError, f"the cluster has no {PODS}: no such"),
        (405, UserError, "the cluster refuses: no such"),
        (409, ConflictError, "no such"),
        (410, UserError, "the cluster refuses: no such"),
        (422, UserError, "the cluster refuses: no such"),
        (307, UserError, "the cluster refuses: no such"),
    ],
)
def test_a_refusal_is_told_once_as_what_it_is(
    cluster: Cluster, server: ApiServer, code: int, kind: type[PlatformError], said: str
) -> None:
    server.answers((code, status(code, "no such")))
    with pytest.raises(kind) as error:
        cluster.get(PODS)
    assert type(error.value) is kind
    assert str(error.value) == said
    assert len(server.asked) == 1


@pytest.mark.parametrize("content", [b"<html>gateway</html>", [1], "text", {}, b"", 7])
def test_a_refusal_may_say_anything(cluster: Cluster, server: ApiServer, content: Any) -> None:
    server.answers((400, content))
    with pytest.raises(UserError, match=r"^the cluster refuses: ."):
        cluster.get(PODS)


def test_a_long_refusal_is_cut(cluster: Cluster, server: ApiServer) -> None:
    server.answers((403, status(403, "x" * 5000)))
    with pytest.raises(UserError) as error:
        cluster.get(PODS)
    assert len(str(error.value)) < 400


def test_an_answer_that_is_no_cluster_s_is_told(cluster: Cluster, server: ApiServer) -> None:
    server.answers((200, b"<html>please log in</html>"))
    with pytest.raises(UserError, match="does not answer as a cluster does"):
        cluster.get(PODS)


def test_removing_what_is_gone_is_no_error(cluster: Cluster, server: ApiServer) -> None:
    server.answers((404, status(404, "gone")))
    cluster.delete(f"{PODS}/a")


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(
    cluster: Cluster, server: ApiServer, pauses: list[float], code: int
) -> None:
    server.answers((code, status(code, "busy")), (code, status(code, "busy")), (200, {"a": 1}))
    assert cluster.create(PODS, {}) == {"a": 1}
    assert [it.method for it in server.asked] == ["POST"] * 3
    assert pauses == [0.1, 0.5]


@pytest.mark.parametrize(
    ("header", "waited"), [("1", [1, 1, 1.5]), ("60", [5, 5, 5]), ("soon", [0.1, 0.5, 1.5])]
)
def test_a_server_that_says_when_to_come_back_is_obeyed(
    cluster: Cluster, server: ApiServer, pauses: list[float], header: str, waited: list[float]
) -> None:
    server.answers((429, status(429, "busy"), {"Retry-After": header}))
    with pytest.raises(UnavailableError) as error:
        cluster.get(PODS)
    assert pauses == waited
    assert error.value.delay == (float(header) if header.isdecimal() else None)
    assert len(server.asked) == 4


def test_a_server_that_comes_back_is_found(
    cluster: Cluster, shared: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ApiServer(shared.authority)
    with running(other):
        one = Cluster(read(kubeconfig(tmp_path, other)))
        one.get(PODS)
    with pytest.raises(UnavailableError, match="does not answer"):
        one.get(PODS)
    again: list[Any] = []

    def back(_seconds: float) -> None:
        if not again:
            again.append(running(other))
            again[0].__enter__()

    monkeypatch.setattr("mlstead.clients.kubernetes.time.sleep", back)
    assert one.get(PODS) == {}
    one.close()
    again[0].__exit__(None, None, None)


def test_a_server_whose_authority_is_another_is_not_talked_to(
    server: ApiServer, tmp_path: Path
) -> None:
    path = kubeconfig(tmp_path, server)
    (tmp_path / "ca.pem").write_text(make_authority("other").certificate_pem)
    one = Cluster(read(path))
    with pytest.raises(UserError, match="a certificate that is not trusted") as error:
        one.get(PODS)
    assert "certificate-authority-data" in error.value.hint
    assert server.asked == []
    one.close()


def test_a_closed_cluster_opens_again(cluster: Cluster) -> None:
    cluster.close()
    cluster.close()
    assert cluster.get(PODS) == {}


# ---- watches


def event(kind: str, version: str, **more: Any) -> bytes:
    item = {"metadata": {"name": "a", "resourceVersion": version, **more}}
    return json.dumps({"type": kind, "object": item}, ensure_ascii=False).encode() + b"\n"


def gone(code: int) -> bytes:
    content = {"type": "ERROR", "object": status(code, "too old resource version")}
    return json.dumps(content).encode() + b"\n"


def watch(cluster: Cluster, **query: str) -> list[tuple[str, str]]:
    found = cluster.watch(PODS, "7", lambda _socket: None, **query)
    return [(it["type"], it["object"]["metadata"]["resourceVersion"]) for it in found]


def test_a_watch_gives_events_until_the_server_ends_it(cluster: Cluster, server: ApiServer) -> None:
    lines = event("ADDED", "8") + event("BOOKMARK", "9") + event("DELETED", "10")
    server.answers((200, Stream([lines[:20], lines[20:33], lines[33:]])))
    found = watch(cluster, labelSelector="a=b")
    assert found == [("ADDED", "8"), ("BOOKMARK", "9"), ("DELETED", "10")]
    asked = server.asked[0].query
    assert asked["watch"] == "1"
    assert asked["allowWatchBookmarks"] == "true"
    assert (asked["resourceVersion"], asked["labelSelector"]) == ("7", "a=b")
    assert int(asked["timeoutSeconds"]) < 300


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029", "\x1c", "é"])
def test_an_event_is_one_line_whatever_is_in_it(
    cluster: Cluster, server: ApiServer, sign: str
) -> None:
    line = event("ADDED", "8", note=sign)
    middle = line.index(b'"note"') + 10  # within the sign, if it has several bytes
    server.answers((200, Stream([line[:middle], line[middle:]])))
    (found,) = cluster.watch(PODS, "7", lambda _socket: None)
    assert found["object"]["metadata"]["note"] == sign


def test_a_version_that_is_too_old_is_told_before_and_within_a_watch(
    cluster: Cluster, server: ApiServer
) -> None:
    server.answers((410, status(410, "too old")), (200, Stream([event("ADDED", "8"), gone(410)])))
    for _ in range(2):
        with pytest.raises(ExpiredError):
            watch(cluster)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((200, Stream([event("ADDED", "8")], cut=True)), UnavailableError),
        ((200, Stream([event("ADDED", "8")[:9]], cut=True)), UnavailableError),
        ((200, Stream([b"no json\n"])), UnavailableError),
        ((200, Stream([gone(500)])), UnavailableError),
        ((403, status(403, "no")), UserError),
        ((401, status(401, "no")), UserError),
        ((503, status(503, "no")), UnavailableError),
    ],
)
def test_a_watch_that_breaks_is_told_as_what_it_is(
    cluster: Cluster, server: ApiServer, answer: Any, kind: type[PlatformError]
) -> None:
    server.answers(answer)
    with pytest.raises(kind):
        watch(cluster)
    assert len(server.asked) == 1


def test_a_watch_ends_when_its_connection_is_shut_down(cluster: Cluster, server: ApiServer) -> None:
    release = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield event("ADDED", "8")
        release.wait(20)

    server.answers((200, Stream(pieces())))
    opened: list[ssl.SSLSocket] = []
    first = threading.Event()
    ended: list[str] = []

    def live() -> None:
        try:
            for _ in cluster.watch(PODS, "7", opened.append):
                first.set()
        except UnavailableError:
            ended.append("broken")
        else:
            ended.append("over")

    thread = threading.Thread(target=live)
    thread.start()
    assert first.wait(20)
    opened[0].shutdown(socket.SHUT_RDWR)
    thread.join(20)
    release.set()
    assert not thread.is_alive()
    assert len(ended) == 1


def test_no_error_says_who_we_are(cluster: Cluster, server: ApiServer) -> None:
    for code in (400, 401, 403, 404, 409, 422, 429, 500):
        server.answers((code, status(code, "no")))
        with pytest.raises(PlatformError) as error:
            cluster.get(PODS)
        assert "s3cret" not in f"{error.value} {error.value.hint} {error.value.__cause__}"


def test_a_namespace_that_is_not_there_is_told_with_how_to_make_it(
    cluster: Cluster, server: ApiServer
) -> None:
    server.answers((404, status(404, 'namespaces "n" not found')))
    with pytest.raises(NotFoundError, match='namespaces "n" not found') as error:
        cluster.get(PODS)
    assert error.value.hint == "kubectl create namespace NAME"
