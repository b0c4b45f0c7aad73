"""Which steps take machines out of a site: parts backwards, no secrets, what was begun as well."""

from __future__ import annotations

import pytest

from mlstead.errors import NotFoundError, UserError
from mlstead.plan import HostFacts, PartFacts, SecretRef
from mlstead.site.leaving import check_worker, drain_steps, remove_steps
from mlstead.testing.site_values import SYSTEM, a_site, bare

SITE = a_site("lab", {"head": ["control-plane", "registry"], "w1": ["worker"]})


def test_parts_go_in_the_opposite_order_and_the_head_last() -> None:
    steps = remove_steps(SITE, bare(SITE), ["head", "w1"])
    order = [it.component for it in steps]
    assert order.index("kubeadm") < order.index("kubelet") < order.index("containerd")
    assert order.index("containerd") < order.index("network") < order.index("python")
    first = [it.target for it in steps if it.component == "kubeadm"]
    assert first == ["w1", "head"]
    assert {it.tasks for it in steps} == {"remove"}


def test_a_removal_needs_no_secret() -> None:
    for step in remove_steps(SITE, bare(SITE), ["head", "w1"]):
        assert not any(isinstance(value, SecretRef) for value in step.arguments.values())


def test_what_an_earlier_site_file_left_is_removed_too() -> None:
    facts = bare(SITE)
    old = HostFacts(SYSTEM, {"registry": PartFacts("x")})
    hosts = {**facts.hosts, "w1": old}
    steps = remove_steps(SITE, type(facts)(hosts, roles=facts.roles), ["w1"])
    (registry,) = [it for it in steps if it.component == "registry"]
    assert registry.arguments["registry_path"] == SITE.registry.path


def test_machines_that_do_not_answer_are_passed_over() -> None:
    facts = bare(SITE)
    hosts = {name: host for name, host in facts.hosts.items() if name == "head"}
    steps = remove_steps(SITE, type(facts)(hosts, roles=facts.roles), ["head", "w1"])
    assert {it.target for it in steps} == {"head"}


def test_only_workers_of_the_site_can_leave() -> None:
    check_worker(SITE, "w1")
    with pytest.raises(UserError, match="head is the control plane"):
        check_worker(SITE, "head")
    with pytest.raises(NotFoundError, match="no machine 'w9'"):
        check_worker(SITE, "w9")


def test_a_dead_machine_is_not_waited_for() -> None:
    (living,) = drain_steps(SITE, ["w1"])
    (dead,) = drain_steps(SITE, ["w1"], dead=True)
    assert (living.target, dead.target) == ("head", "head")
    assert (living.arguments["kubeadm_patience"], dead.arguments["kubeadm_patience"]) == (
        "120s",
        "20s",
    )
