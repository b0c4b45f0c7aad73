"""The plan names exactly what keeps this machine out of the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from mlstead.machines.laptop import GROUP, PART, fingerprint
from mlstead.plan import Answer, Facts, HostFacts, steps_of
from mlstead.spec.load import parse_site

SITE = parse_site(
    "mlstead: 1\nkind: site\nname: lab\n"
    "machines: {h: {address: 10.0.0.1, roles: [control-plane]}}\n"
)
EXISTING = parse_site(
    "mlstead: 1\nkind: site\nname: lab\nkubernetes: {distribution: existing, kubeconfig: k}\n"
)
PEM = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n"
OTHER = PEM.replace("AQID", "AQIE")
GOOD: dict[str, Any] = {
    "context": True, "ours": True, "server": "https://10.0.0.1:6443",
    "authority": fingerprint(PEM), "groups": (GROUP,), "expires": 100.0 * 86400, "now": 0.0,
}  # fmt: skip
RBAC = "rbac.authorization.k8s.io"
BINDING = {
    "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"apiGroup": RBAC, "kind": "Group", "name": GROUP}],
    "metadata": {
        "name": GROUP,
        "labels": {"app.kubernetes.io/managed-by": "mlstead", "mlstead.io/site": "lab"},
    },
    "apiVersion": f"{RBAC}/v1",
    "kind": "ClusterRoleBinding",
}  # fmt: skip


def planned(
    found: dict[str, Any], authority: str = PEM, objects: dict[str, Any] | None = None
) -> list[tuple[str, tuple[str, ...]]]:
    there = {"ClusterRoleBinding/mlstead:admins": BINDING} if objects is None else objects
    host = HostFacts(answers={"authority": Answer(0, authority)})
    facts = Facts(hosts={"h": host}, objects=there, laptop={"laptop": found})
    return [(step.key, step.reasons) for step in steps_of("laptop", PART, SITE, facts)]


def test_nothing_is_planned_where_all_is_as_described() -> None:
    assert planned(GOOD) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"context": False}, "there is no context lab"),
        ({"ours": False}, "the context lab leads to another cluster"),
        ({"server": "https://10.0.0.9:6443"}, "it leads to https://10.0.0.9:6443"),
        ({"authority": fingerprint(OTHER)}, "the cluster has another authority"),
        ({"authority": ""}, "it does not verify the server"),
        ({"groups": ("system:masters",)}, "it has no certificate of ours"),
        ({"now": 80.5 * 86400}, "its certificate ends in 19 days"),
        ({"now": 98.5 * 86400}, "its certificate ends in 1 day"),
        ({"now": 101.0 * 86400}, "its certificate has ended"),
        ({"problem": "config:1:2: damaged"}, "config:1:2: damaged"),
    ],
)
def test_one_thing_wrong_is_one_step_with_its_reason(change: dict[str, Any], reason: str) -> None:
    assert planned({**GOOD, **change}) == [("laptop:laptop", (reason,))]


def test_a_certificate_is_kept_until_thirty_days_before_its_end() -> None:
    assert planned({**GOOD, "now": 69.9 * 86400}) == []


def test_a_cluster_without_authority_needs_a_new_context() -> None:
    assert planned(GOOD, authority="") == [
        ("laptop:laptop", ("the cluster has another authority",))
    ]


def test_a_binding_that_is_gone_or_changed_is_put_back() -> None:
    assert [key for key, _ in planned(GOOD, objects={})] == ["laptop:cluster"]
    changed = {**BINDING, "subjects": []}
    found = planned(GOOD, objects={"ClusterRoleBinding/mlstead:admins": changed})
    reason = "ClusterRoleBinding/mlstead:admins: subjects was changed"
    assert found == [("laptop:cluster", (reason,))]


def test_a_machine_that_does_not_answer_makes_no_new_certificate() -> None:
    facts = Facts(objects={"ClusterRoleBinding/mlstead:admins": BINDING}, laptop={"laptop": GOOD})
    assert steps_of("laptop", PART, SITE, facts) == []


def test_an_existing_cluster_is_left_to_its_own_kubeconfig() -> None:
    assert steps_of("laptop", PART, EXISTING, Facts()) == []
    assert PART.probes(SITE, "h") and not PART.probes(EXISTING, "h")


def test_a_damaged_kubeconfig_stops_an_apply_before_it_begins() -> None:
    facts = Facts(laptop={"laptop": {"problem": "config:1:2: damaged"}})
    assert PART.unmet(SITE, facts) == ["config:1:2: damaged"]


def test_a_fingerprint_does_not_depend_on_white_space() -> None:
    assert fingerprint(PEM) == fingerprint(PEM.rstrip()) != fingerprint(OTHER)
    assert fingerprint("nothing") == ""
