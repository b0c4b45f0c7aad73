"""Objects are deleted; a namespace only when nothing of others is in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from mlstead.plan import Step
from mlstead.site import taking
from mlstead.site.applying import Doing, Event, run_steps
from mlstead.site.planning import groups
from mlstead.testing.site_values import sites

PLACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "data"}}
ONE = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "data"}}
QUIET = "ConfigMap kube-root-ca.crt <none> <none>\nServiceAccount default <none> <none>\n"


class FakeReach:
    """A cluster that keeps what it was asked, and shows what is in a namespace, in turn."""

    def __init__(self, *rows: str) -> None:
        self.rows = list(rows) or [QUIET]
        self.calls: list[tuple[list[str], bytes]] = []

    def run(
        self, program: str, words: Sequence[str], content: bytes = b"", patience: float = 0
    ) -> str:
        self.calls.append(([program, *words], content))
        if words[0] == "api-resources":
            return "configmaps\nevents\nevents.events.k8s.io\nserviceaccounts\nthings.db.io\n"
        if "kube-node-lease" in words:
            return QUIET + "Lease h1 Node <none>\n"
        if "get" in words:
            return self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]
        return ""

    def chart(self, file: str) -> str:
        return file

    def deleted(self) -> list[str]:
        contents = [json.loads(it) for words, it in self.calls if words[1] == "delete"]
        return [one["metadata"]["name"] for it in contents for one in it["items"]]

    def asked(self, word: str) -> list[str]:
        return next((words for words, _ in self.calls if word in words), [])


def _take(reach: FakeReach, *namespaces: dict[str, Any]) -> list[str]:
    return taking.take(reach, {"objects": [ONE], "namespaces": list(namespaces)})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlstead.site.taking.time.sleep", lambda seconds: None)


def test_objects_are_deleted_and_waited_for() -> None:
    reach = FakeReach()
    assert _take(reach) == []
    assert reach.deleted() == ["a"]
    assert {"--ignore-not-found", "--wait"} <= set(reach.asked("delete"))
    assert reach.asked("api-resources") == []


def test_a_namespace_with_nothing_else_in_it_goes_last() -> None:
    reach = FakeReach()
    assert _take(reach, PLACE) == []
    assert reach.deleted() == ["a", "data"]


def test_every_kind_is_looked_for_but_what_the_cluster_tells_of_others() -> None:
    reach = FakeReach()
    _take(reach, PLACE)
    assert "configmaps,serviceaccounts,things.db.io" in reach.asked("get")


def test_what_is_on_its_way_out_is_waited_for() -> None:
    pods = "Pod x-1 ReplicaSet <none>\nPod y <none> 2026-01-01T00:00:00Z\n"
    reach = FakeReach(QUIET + pods, QUIET + pods, QUIET)
    assert _take(reach, PLACE) == []
    assert reach.deleted() == ["a", "data"]
    assert sum("data" in words for words, _ in reach.calls) == 3


def test_a_namespace_that_others_use_stays_and_is_ours_no_more() -> None:
    rows = "".join(f"Secret s{at} <none> <none>\n" for at in range(5))
    reach = FakeReach(QUIET + rows)
    (told,) = _take(reach, PLACE)
    assert told == "the namespace data stays, with Secret/s0, Secret/s1, Secret/s2 and 2 more"
    assert reach.deleted() == ["a"]
    assert reach.asked("label")[4:] == [
        "app.kubernetes.io/managed-by-", "mlstead.io/site-", "mlstead.io/app-"
    ]  # fmt: skip


def test_steps_of_a_removal_take_away_and_tell_what_stays() -> None:
    reach = FakeReach("Secret s <none> <none>\n")
    events: list[Event] = []
    doing = Doing(
        sites()["three"], None, "", lambda name: "", events.append, reach=reach  # type: ignore[arg-type]
    )  # fmt: skip
    named = {"release": "db", "namespace": "data"}
    steps = [
        Step("Remove: db", "cluster", "db", "helm", named, (), "remove", "db"),
        Step("Remove: db", "cluster", "db", "manifest",
             {"objects": [ONE], "namespaces": [PLACE]}, (), "remove", "objects"),
    ]  # fmt: skip
    assert run_steps(doing, steps) == 2
    assert reach.calls[0][0][:3] == ["helm", "uninstall", "db"]
    assert "the namespace data stays, with Secret/s" in [event.title for event in events]
    assert groups(steps) == [[steps[0]], [steps[1]]]
