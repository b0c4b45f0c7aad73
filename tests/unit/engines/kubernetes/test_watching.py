"""What is kept of a cluster is what the cluster has, however its watches end."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.clients.api_server import (
    ApiServer,
    Asked,
    Stream,
    api_server,
    kubeconfig,
    running,
)

from mlstead.clients.kubernetes import Cluster
from mlstead.clients.kubernetes_login import read
from mlstead.engines.kubernetes import watching
from mlstead.engines.kubernetes.watching import Kept
from mlstead.errors import UnavailableError

PODS = "/api/v1/namespaces/n/pods"


def item(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


class Things:
    """A cluster with some objects: lists them, and streams what a test puts into its watches."""

    def __init__(self) -> None:
        self.version = 1
        self.items: dict[str, int] = {}
        self.watches: list[Asked] = []
        self.lists = 0
        self._news = threading.Condition()
        self._lines: list[bytes | None] = []
        self._closed = False

    def answer(self, asked: Asked) -> tuple[int, Any]:
        with self._news:
            if "watch" in asked.query:
                self.watches.append(asked)
                self._news.notify_all()
                return 200, Stream(self._pieces())
            self.lists += 1
            items = [item(*one) for one in self.items.items()]
            return 200, {"metadata": {"resourceVersion": str(self.version)}, "items": items}

    def tell(self, kind: str, name: str) -> None:
        """Change one thing and tell those who watch."""
        with self._news:
            self.version += 1
            if kind == "DELETED":
                self.items.pop(name)
            elif kind != "BOOKMARK":
                self.items[name] = self.version
            content = {"type": kind, "object": item(name, self.version)}
            self._send(json.dumps(content).encode() + b"\n")

    def expire(self) -> None:
        """Say that what is watched from is too old."""
        with self._news:
            self._send(b'{"type": "ERROR", "object": {"code": 410, "message": "too old"}}\n')
            self._send(None)

    def end(self) -> None:
        """End the watch."""
        with self._news:
            self._send(None)

    def close(self) -> None:
        """End all watches."""
        with self._news:
            self._closed = True
            self._news.notify_all()

    def _send(self, line: bytes | None) -> None:
        self._lines.append(line)
        self._news.notify_all()

    def _pieces(self) -> Iterator[bytes]:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._lines or self._closed, 20)
                if not self._lines:
                    return
                line = self._lines.pop(0)
            if line is None:
                return
            yield line


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with api_server() as state:
        yield state


@pytest.fixture
def things(server: ApiServer) -> Iterator[Things]:
    found = Things()
    server.answer = found.answer
    yield found
    found.close()


@pytest.fixture
def told() -> list[str | None]:
    return []


@pytest.fixture
def kept(
    server: ApiServer, things: Things, told: list[str | None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Kept]:  # fmt: skip
    monkeypatch.setattr(watching, "_PAUSES", (0.01,))
    cluster = Cluster(read(kubeconfig(tmp_path, server)))
    before = threading.active_count()
    found = Kept(
        cluster, PODS, "a=b", lambda it: told.append(str(it["metadata"]["name"]) if it else None)
    )
    yield found
    found.stop()
    cluster.close()
    things.close()
    until(lambda: threading.active_count() <= before, "threads to end")


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, f"waited for {what}"
        time.sleep(0.002)


def names(kept: Kept) -> dict[str, int]:
    return {name: int(it["metadata"]["resourceVersion"]) for name, it in kept.objects().items()}


def test_what_is_there_is_listed_and_what_changes_is_watched(
    kept: Kept, things: Things, told: list[str | None]
) -> None:
    things.tell("ADDED", "a")
    things._lines.clear()
    assert not kept.watched
    kept.start()
    kept.start()
    until(lambda: things.watches, "a watch")
    assert kept.watched
    assert names(kept) == {"a": 2}
    things.tell("ADDED", "b")
    things.tell("MODIFIED", "a")
    things.tell("DELETED", "b")
    things.tell("BOOKMARK", "")
    things.tell("ADDED", "c")
    until(lambda: names(kept) == things.items == {"a": 4, "c": 7}, "all changes")
    assert told == [None, "b", "a", "b", "c"]
    (watch,) = things.watches
    assert (watch.query["resourceVersion"], watch.query["labelSelector"]) == ("2", "a=b")
    assert things.lists == 1


def test_a_watch_goes_on_from_what_it_was_told_and_not_from_what_others_listed(
    kept: Kept, things: Things
) -> None:
    kept.start()
    until(lambda: things.watches, "a watch")
    things.tell("ADDED", "a")
    until(lambda: names(kept) == {"a": 2}, "a change")
    things.version = 9  # somebody else changes things, and lists them before they are told of
    assert set(kept.list()) == {"a"}
    things.end()
    until(lambda: len(things.watches) == 2, "the next watch")
    assert things.watches[1].query["resourceVersion"] == "2"
    assert things.lists == 2


def test_a_bookmark_is_where_the_next_watch_goes_on(kept: Kept, things: Things) -> None:
    kept.start()
    until(lambda: things.watches, "a watch")
    things.tell("BOOKMARK", "")
    things.end()
    until(lambda: len(things.watches) == 2, "the next watch")
    assert things.watches[1].query["resourceVersion"] == "2"
    assert things.lists == 1


def test_a_watch_that_is_too_old_lists_again(kept: Kept, things: Things) -> None:
    kept.start()
    until(lambda: things.watches, "a watch")
    things.version, things.items = 50, {"b": 49}
    things.expire()
    until(lambda: len(things.watches) == 2, "the next watch")
    assert names(kept) == {"b": 49}
    assert things.watches[1].query["resourceVersion"] == "50"


def test_a_cluster_that_is_away_leaves_what_is_known_and_comes_back(
    things: Things, told: list[str | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_PAUSES", (0.01,))
    monkeypatch.setattr("mlstead.clients.kubernetes._PAUSES", ())
    with api_server() as own:
        own.answer = things.answer
        cluster = Cluster(read(kubeconfig(tmp_path, own)))
        kept = Kept(cluster, PODS, "", lambda it: told.append(None))
        things.items["a"] = 1
        kept.start()
        until(lambda: things.watches, "a watch")
        things.end()  # with the server gone, too
    until(lambda: kept.problem is not None, "the server to be missed")
    assert isinstance(kept.problem, UnavailableError)
    assert (kept.watched, names(kept)) == (False, {"a": 1})
    things.items = {"b": 5}
    with running(own):
        until(lambda: kept.watched, "the server to be found again")
        assert names(kept) == {"b": 5}
        kept.stop()
        things.close()
    cluster.close()


def test_who_stops_while_a_watch_is_open_ends_it(kept: Kept, things: Things) -> None:
    before = threading.active_count()
    kept.start()
    until(lambda: things.watches, "a watch")
    kept.stop()
    assert not kept.watched
    things.end()
    until(lambda: threading.active_count() <= before, "threads to end")
    kept.start()
    until(lambda: len(things.watches) == 2, "the next watch")
    assert kept.watched
    assert things.lists == 2


def test_who_stops_before_it_began_changes_nothing(kept: Kept) -> None:
    kept.stop()
    kept.stop()
    assert not kept.watched
