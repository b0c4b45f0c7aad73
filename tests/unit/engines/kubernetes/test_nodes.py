"""What nodes have is read in all forms and remembered; why a Job has no pod is told."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

import pytest

from mlstead.clients.kubernetes import Cluster
from mlstead.engines.base import Reason
from mlstead.engines.kubernetes import nodes
from mlstead.engines.kubernetes.quantity import amount
from mlstead.errors import PlatformError, UnavailableError, UserError


class Answers:
    """Stands where a cluster does, and answers from a table."""

    def __init__(self, *items: Any, server: str = "https://one", error: Any = None) -> None:
        self.server = server
        self.items, self.error, self.asked = list(items), error, 0

    def get(self, path: str, **query: str) -> dict[str, Any]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return {"items": self.items}

    look = get


def node(name: str, *, cordoned: bool = False, **has: str) -> dict[str, Any]:
    gpu = has.pop("gpu", "")
    amounts = {**has, "nvidia.com/gpu": gpu} if gpu else has
    labels = {"nvidia.com/gpu.product": "A100"} if gpu else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"unschedulable": True} if cordoned else {},
        "status": {"allocatable": amounts},
    }


def facts(answers: Answers, folder: Path) -> Any:
    return nodes.facts(cast("Cluster", answers), folder, "team")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("2", 2), ("1930m", 1.93), ("123456789n", 0.123456789), ("250u", 0.00025),
        ("2Gi", 2 << 30), ("7936920Ki", 7936920 << 10), ("1048576k", 1048576000), ("3M", 3e6),
        ("1G", 1e9), ("2T", 2e12), ("2P", 2e15), ("1E", 1e18), ("1Ei", 1 << 60), ("1e3", 1000),
        ("12E2", 1200), ("1.5Gi", 1.5 * (1 << 30)), ("-1", -1),
    ],
)  # fmt: skip
def test_an_amount_is_read_in_every_form(text: str, value: float) -> None:
    assert amount(text) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["", "m", "2GB", "1 Gi", "x"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no quantity|could not convert"):
        amount(text)


def test_facts_are_what_the_nodes_have_that_take_work(tmp_path: Path) -> None:
    answers = Answers(
        node("a", cpu="3900m", memory="8Gi", gpu="2"),
        node("b", cpu="4", memory="1000k"),
        node("c", cordoned=True, cpu="64", memory="1Ti"),
    )
    found = facts(answers, tmp_path)
    assert (found.cpu, found.memory, found.gpus) == (7.9, (8 << 30) + 1000000, ("A100", "A100"))
    assert found.details["namespace"] == "team"
    assert [it["name"] for it in found.details["nodes"]] == ["a", "b"]


def test_nodes_are_asked_for_once_in_a_while(tmp_path: Path) -> None:
    answers = Answers(node("a", cpu="1", memory="1Gi"))
    assert facts(answers, tmp_path) == facts(answers, tmp_path)
    assert answers.asked == 1
    file = tmp_path / "facts.json"
    for moment in (time.time() - 400, time.time() + 4000):  # a clock that was set back
        file.write_text(json.dumps({**json.loads(file.read_text()), "time": moment}))
        facts(answers, tmp_path)
    assert answers.asked == 3


def test_a_cluster_that_is_away_has_what_it_had(tmp_path: Path) -> None:
    file = tmp_path / "facts.json"
    before = facts(Answers(node("a", cpu="1", memory="1Gi")), tmp_path)
    file.write_text(json.dumps({**json.loads(file.read_text()), "time": 0}))
    assert facts(Answers(error=UnavailableError("away")), tmp_path) == before


def test_another_cluster_that_is_away_has_not_what_the_first_had(tmp_path: Path) -> None:
    facts(Answers(node("a", cpu="1", memory="1Gi")), tmp_path)
    with pytest.raises(UnavailableError):
        facts(Answers(server="https://two", error=UnavailableError("away")), tmp_path)


def test_who_may_not_see_nodes_has_no_figures(tmp_path: Path) -> None:
    found = facts(Answers(error=UserError("forbidden")), tmp_path)
    assert (found.cpu, found.memory, found.details["nodes"]) == (0, 0, [])


@pytest.mark.parametrize("content", ["", "{", "null"])
def test_damaged_facts_are_asked_for_again(tmp_path: Path, content: str) -> None:
    (tmp_path / "facts.json").write_text(content)
    assert facts(Answers(node("a", cpu="1", memory="1Gi")), tmp_path).cpu == 1


# ---- why a Job has no pod

OLD = {"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "u"}, "status": {}}


def why(answers: Answers, job: dict[str, Any]) -> tuple[Reason | None, str]:
    return nodes.why_no_pod(cast("Cluster", answers), "team", job)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('pods "t" is forbidden: exceeded quota: small', Reason.QUOTA),
        ('pods "t" is forbidden: violates PodSecurity', Reason.ADMISSION),
    ],
)
def test_why_there_is_no_pod_is_told_by_the_last_event(message: str, reason: Reason) -> None:
    answers = Answers({"message": "before"}, {"message": message})
    assert why(answers, OLD) == (reason, message)


def test_a_new_job_or_one_with_pods_is_not_asked_about() -> None:
    answers = Answers({"message": "x"})
    new = {"metadata": {"creationTimestamp": "2999-01-01T00:00:00Z", "uid": "u"}}
    assert why(answers, new) == why(answers, {**OLD, "status": {"active": 1}}) == (None, "")
    assert answers.asked == 0


@pytest.mark.parametrize("error", [None, UnavailableError("away"), UserError("forbidden")])
def test_without_events_nothing_is_said(error: PlatformError | None) -> None:
    assert why(Answers(error=error), OLD) == (None, "")
