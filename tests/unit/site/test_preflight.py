"""The preflight names what is in the way of an install, machine by machine, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from mlstead.plan import HostFacts, PartFacts
from mlstead.site.preflight import Finding, preflight
from mlstead.testing.site_values import SYSTEM, a_site, bare

SITE = a_site("lab", {"head": ["control-plane"], "w1": ["worker"]})
GIB = 1 << 30


def found(**system: Any) -> list[Finding]:
    """Look at a head of which something is otherwise."""
    facts = bare(SITE, addresses=["127.0.0.1", "192.168.10.50", "192.168.10.51"])
    head = HostFacts({**facts.hosts["head"].system, **system})
    hosts = {**facts.hosts, "head": head}
    return preflight(SITE, type(facts)(hosts=hosts, bundle=facts.bundle), {})


def test_fit_machines_are_not_spoken_of() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ({"os": {"id": "fedora", "pretty_name": "Fedora 44"}}, "runs Fedora 44"),
        ({"arch": "aarch64"}, "has the architecture aarch64"),
        ({"has": ["iptables"]}, "has no systemd"),
        (
            {"addresses": ["127.0.0.1", "10.9.9.9"]},
            "does not have the address 192.168.10.50 itself; it has 10.9.9.9",
        ),
        ({"foreign": ["docker"]}, "docker is or was installed here"),
        ({"foreign": ["k3s"]}, "k3s is or was installed here"),
        ({"kubernetes": True}, "belongs to a Kubernetes cluster that mlstead did not make"),
        ({"memory": {"total": GIB, "available": GIB}}, "has 1.0 GiB of memory"),
        (
            {"disks": {"/": {"size": 10 * GIB, "free": GIB}}},
            "/ has 1.0 GiB free",
        ),
        (
            {"listening": [["tcp", "0.0.0.0", 6443, "nginx"]]},
            "tcp port 6443 is taken by nginx",
        ),
    ],
)
def test_what_stops_an_install_is_named_with_what_to_do(system: Any, words: str) -> None:
    (finding,) = found(**system)
    assert (finding.target, finding.message, finding.stops) == ("head", words, True)
    assert finding.hint


@pytest.mark.parametrize(
    ("system", "words"),
    [
        ({"swap": ["/dev/sda2"]}, "uses swap (/dev/sda2)"),
        ({"apt": False}, "its package database is not whole"),
        ({"synchronised": False}, "its clock follows no time server"),
    ],
)
def test_what_does_not_stop_an_install_is_said(system: Any, words: str) -> None:
    (finding,) = found(**system)
    assert (finding.target, finding.message, finding.stops) == ("head", words, False)


@pytest.mark.parametrize(("skew", "way"), [(600.0, "ahead of"), (-600.0, "behind")])
def test_a_clock_that_is_ten_minutes_wrong_stops(skew: float, way: str) -> None:
    facts = bare(SITE, addresses=["192.168.10.50", "192.168.10.51"])
    (finding,) = preflight(SITE, facts, {"w1": skew})
    assert (finding.target, finding.stops) == ("w1", True)
    assert finding.message == f"its clock is 600 s {way} this machine's"


def test_our_own_programs_may_listen_once_they_are_installed() -> None:
    facts = bare(SITE, addresses=["192.168.10.50", "192.168.10.51"])
    system = {
        **facts.hosts["head"].system,
        "kubernetes": True,
        "listening": [["tcp", "0.0.0.0", 6443, "kube-apiserver"]],
    }
    ours = HostFacts(system, {"kubelet": PartFacts("x"), "kubeadm": PartFacts("x")})
    hosts = {**facts.hosts, "head": ours}
    assert preflight(SITE, type(facts)(hosts=hosts, bundle=facts.bundle), {}) == []


def test_without_a_bundle_the_site_is_told_once_what_it_lacks() -> None:
    facts = bare(SITE, addresses=["192.168.10.50", "192.168.10.51"])
    (finding,) = preflight(SITE, type(facts)(hosts=facts.hosts), {})
    assert finding.target == "cluster"
    assert "no bundle is given" in finding.message


def test_a_machine_without_python_is_passed_over() -> None:
    facts = bare(SITE)
    hosts = {**facts.hosts, "head": HostFacts({"python": "", "arch": "x86_64"})}
    found_of = {it.target for it in preflight(SITE, type(facts)(hosts, bundle=facts.bundle), {})}
    assert "head" not in found_of


def test_recorded_systems_have_what_the_preflight_reads() -> None:
    assert {"os", "arch", "has", "addresses", "foreign", "swap", "apt"} <= set(SYSTEM)
