"""How a site is, made of facts: nodes, drift, certificates, machines that do not answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from mlstead.errors import UnavailableError
from mlstead.plan import Answer, Facts, HostFacts, PartFacts
from mlstead.site.facts import Gathered
from mlstead.site.status import status
from mlstead.testing.site_values import SYSTEM, a_site

SITE = a_site("lab", {"head": ["control-plane"], "w1": ["worker"]})
DONE = {"kubelet": PartFacts("x")}


def node(name: str, ready: str = "True", **spec: Any) -> dict[str, Any]:
    """Give a node as the API server tells it."""
    state = {
        "nodeInfo": {"kubeletVersion": "v1.36.3"},
        "conditions": [{"type": "Ready", "status": ready}],
    }
    return {"metadata": {"name": name}, "spec": spec, "status": state}


def gathered(*nodes: dict[str, Any], w1: HostFacts | None, days: float = 100) -> Gathered:
    """Give facts in which the head tells of some nodes."""
    ends = (datetime.now(UTC) + timedelta(days=days, minutes=5)).isoformat()
    certificates = {"certificates": [{"expirationDate": ends, "missing": False}]}
    answers = {
        "nodes": Answer(0, json.dumps({"items": list(nodes)})),
        "certificates": Answer(0, json.dumps(certificates)),
    }
    hosts = {"head": HostFacts(SYSTEM, DONE, answers)}
    problems = {} if w1 else {"w1": UnavailableError("w1 (192.168.10.51): does not answer")}
    return Gathered(Facts(hosts={**hosts, **({"w1": w1} if w1 else {})}), problems)


def test_machines_that_are_as_applied_are_ok_with_their_version_and_certificates() -> None:
    found = status(SITE, gathered(node("head"), node("w1"), w1=HostFacts(SYSTEM, DONE), days=41))
    head, w1 = found.machines
    assert (head.state, head.node, head.kubernetes, head.certificates) == (
        "ok",
        "Ready",
        "v1.36.3",
        41,
    )
    assert (w1.state, w1.certificates, found.strangers) == ("ok", None, ())


def test_drift_is_told_in_words() -> None:
    drifted = HostFacts(SYSTEM, {"kubelet": PartFacts("x", ("kubelet.service is inactive",))})
    w1 = status(SITE, gathered(node("head"), node("w1", "Unknown"), w1=drifted)).machines[1]
    assert (w1.state, w1.node) == ("drift", "NotReady")
    assert w1.words == ("kubelet: kubelet.service is inactive",)


def test_a_machine_that_does_not_answer_says_why_and_what_the_cluster_thinks() -> None:
    w1 = status(SITE, gathered(node("head"), node("w1", "Unknown"), w1=None)).machines[1]
    assert (w1.state, w1.node) == ("unreachable", "NotReady")
    assert w1.words == ("w1 (192.168.10.51): does not answer",)


def test_cordoned_bare_and_foreign_nodes_are_told_apart() -> None:
    bare = HostFacts(SYSTEM)
    nodes = (node("head", unschedulable=True), node("other"))
    found = status(SITE, gathered(*nodes, w1=bare))
    assert [it.state for it in found.machines] == ["not ready", "not installed"]
    assert found.machines[0].node == "cordoned"
    assert found.strangers == ("other",)
