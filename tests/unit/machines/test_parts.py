"""What parts of machines are given, by what the site says and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlstead.clients import authority
from mlstead.machines import _sources, containerd, kubeadm, kubelet, network, registry
from mlstead.plan import Answer, Facts, PartFacts, SecretRef, steps_of
from mlstead.spec.base import FrozenDict
from mlstead.spec.site import Kubernetes, Registry, Site
from mlstead.testing.site_values import SYSTEM, a_bundle, a_site, bare, sites


def inputs(module: Any, site: Site, machine: str, facts: Facts | None = None) -> Mapping[str, Any]:
    found: Mapping[str, Any] = module.PART.inputs(site, facts or bare(site), machine)
    return found


def mixed(site: Site, machine: str, **system: Any) -> Facts:
    """Give facts in which one machine is of another kind."""
    facts = bare(site)
    host = replace(facts.hosts[machine], system={**SYSTEM, **system})
    return replace(facts, hosts={**facts.hosts, machine: host})


# ---- kubeadm


def test_the_first_machine_makes_the_cluster_and_others_join_it() -> None:
    site = sites()["apart"]
    head, worker = inputs(kubeadm, site, "n1"), inputs(kubeadm, site, "n2")
    assert (head["kubeadm_mode"], worker["kubeadm_mode"]) == ("init", "join")
    assert head["kubeadm_endpoint"] == worker["kubeadm_endpoint"] == "192.168.10.52:6443"
    assert worker["kubeadm_head"] == "n1"
    assert worker["kubeadm_address"] == "192.168.10.51"
    assert "kubeadm_taints" not in worker
    assert kubeadm.PART.machines(site) == ("n1", "n2")


@pytest.mark.parametrize(
    ("roles", "more", "tainted"),
    [
        (["control-plane"], {}, False),
        (["control-plane"], {"w": ["worker"]}, True),
        (["control-plane", "worker"], {"w": ["worker"]}, False),
        (["control-plane"], {"r": ["registry"]}, False),
    ],
)
def test_a_control_plane_runs_work_if_it_is_a_worker_or_alone(
    roles: list[Any], more: dict[str, Any], tainted: bool
) -> None:
    site = a_site("s", {"h": roles, **more})
    assert bool(inputs(kubeadm, site, "h")["kubeadm_taints"]) is tainted


def test_control_groups_of_the_first_version_are_allowed_for() -> None:
    site = sites()["three"]
    facts = mixed(site, "w1", cgroups=1)
    assert inputs(kubeadm, site, "w1", facts)["kubeadm_ignore"] == ["SystemVerification"]
    assert inputs(kubeadm, site, "head", facts)["kubeadm_ignore"] == []
    assert inputs(kubeadm, site, "head")["kubeadm_kubelet"]["failCgroupV1"] is False


def test_a_machine_that_is_away_changes_nothing_for_the_others() -> None:
    site = sites()["three"]
    facts = mixed(site, "w1", cgroups=1)
    away = replace(facts, hosts={key: it for key, it in facts.hosts.items() if key != "w1"})
    for name in ("head", "w2"):
        assert inputs(kubeadm, site, name, facts) == inputs(kubeadm, site, name, away)


def test_where_limits_cannot_be_raised_the_proxy_leaves_them_alone() -> None:
    site = sites()["three"]
    assert "conntrack" not in inputs(kubeadm, site, "head")["kubeadm_proxy"]
    facts = mixed(site, "w2", resources=False)
    assert inputs(kubeadm, site, "head", facts)["kubeadm_proxy"]["conntrack"] == {
        "maxPerCore": 0, "min": 0
    }  # fmt: skip


def test_fields_of_the_kubelet_come_from_the_site() -> None:
    fields = FrozenDict({"maxPods": 20, "cgroupDriver": "cgroupfs"})
    site = a_site("s", {"h": ["control-plane"]}, kubernetes=Kubernetes(kubelet=fields))
    found = inputs(kubeadm, site, "h")["kubeadm_kubelet"]
    assert (found["maxPods"], found["cgroupDriver"]) == (20, "cgroupfs")
    assert found["rotateCertificates"] is True


def test_versions_come_from_the_bundle() -> None:
    site = sites()["one"]
    assert inputs(kubeadm, site, "box")["kubeadm_version"] == "v1.36.3"


def test_a_bundle_without_an_api_server_is_told() -> None:
    site = sites()["one"]
    facts = replace(bare(site), bundle=replace(a_bundle(), versions={}))
    assert kubeadm.PART.unmet(site, facts) == ["the bundle has no image kube-apiserver"]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v1.36.0", []),
        ("v1.35.9", ["the bundle has Kubernetes v1.35.9, and the site asks for 1.36"]),
        ("v1.3.6", ["the bundle has Kubernetes v1.3.6, and the site asks for 1.36"]),
    ],
)
def test_a_bundle_of_another_kubernetes_is_told(version: str, said: list[str]) -> None:
    site = sites()["three"]
    bundle = replace(a_bundle(), versions={"kubernetes": version})
    assert kubeadm.PART.unmet(site, replace(bare(site), bundle=bundle)) == said


def test_only_the_control_plane_is_asked_about_the_cluster() -> None:
    site = sites()["three"]
    assert [probe.name for probe in kubeadm.PART.probes(site, "head")][:2] == ["objects", "nodes"]
    assert list(kubeadm.PART.probes(site, "w1")) == []


# ---- registry and runtime


def test_every_node_trusts_the_registry_and_logs_in_by_a_secret() -> None:
    found = inputs(containerd, sites()["apart"], "n2")
    assert found["containerd_registry"] == "192.168.10.50:5443"
    assert found["containerd_password"] == SecretRef("registry.password")
    assert found["containerd_authority"] == SecretRef("authority.crt")


def test_without_a_registry_there_is_no_secret() -> None:
    site = sites()["one"]
    assert registry.address(site) == ""
    assert registry.PART.machines(site) == ()
    assert registry.PART.unmet(site, Facts()) == []
    found = inputs(containerd, site, "box")
    assert not [value for value in found.values() if isinstance(value, SecretRef)]


def test_the_registry_lies_where_the_site_says() -> None:
    site = a_site(
        "s", {"h": ["control-plane", "registry"]}, registry=Registry(port=443, path="/data/r")
    )
    found = inputs(registry, site, "h")
    assert (found["registry_path"], found["registry_address"]) == ("/data/r", "192.168.10.50:443")
    assert [port.number for port in registry.PART.ports(site)] == [443]


# ---- network


def test_every_machine_knows_every_machine_by_name() -> None:
    site = sites()["apart"]
    names = ["192.168.10.50 images", "192.168.10.51 n2", "192.168.10.52 n1"]
    for machine in site.machines:
        found = inputs(network, site, machine)
        assert found["network_hosts"] == names
        assert found["network_hostname"] == machine
    assert network.PART.machines(site) == ["images", "n2", "n1"]


# ---- files of the bundle


def test_a_program_that_is_a_link_is_copied_once_and_linked() -> None:
    found = inputs(kubelet, sites()["three"], "w1")
    programs = [it["dest"] for it in found["kubelet_files"] if it["src"].startswith("bin/")]
    assert programs == ["/usr/local/bin/hyperkube"]
    assert [it["dest"].rsplit("/", 1)[-1] for it in found["kubelet_links"]] == [
        "kubeadm", "kubelet", "kubectl"
    ]  # fmt: skip
    assert {it["to"] for it in found["kubelet_links"]} == {"hyperkube"}


def test_files_are_copied_with_the_hash_of_the_manifest() -> None:
    bundle = a_bundle()
    hashes = {file.path: file.sha256 for file in bundle.files}
    facts = Facts(bundle=bundle)
    copies = [
        *_sources.programs(facts, "runc", "ctr", "gone"),
        *_sources.plugins(facts),
        *_sources.archives(facts),
    ]
    assert [it["src"] for it in copies] == [
        "bin/ctr", "bin/runc", "cni/bridge", "cni/cni-kindnet", "images/kube.tar"
    ]  # fmt: skip
    assert all(it["sha256"] == hashes[it["src"]] for it in copies)
    assert {it["mode"] for it in copies if it["src"].startswith("images/")} == {"0644"}
    assert {it["mode"] for it in copies if not it["src"].startswith("images/")} == {"0755"}


def test_what_the_bundle_lacks_is_named() -> None:
    facts = Facts(bundle=a_bundle())
    assert _sources.lacking(facts, "kubelet", "runc") == []
    assert _sources.lacking(facts, "runc", "gone") == ["the bundle has no bin/gone"]
    assert _sources.lacking(Facts(), "runc", "gone") == [_sources.NO_BUNDLE]
    assert _sources.programs(Facts(), "runc") == _sources.plugins(Facts()) == []


@pytest.mark.parametrize(
    ("days", "reasons"),
    [
        (400, []),
        (30, []),
        (29, ["its certificate ends in 28 days"]),
        (1, ["its certificate ends in 0 days"]),
        (-1, ["its certificate has ended"]),
    ],
)
def test_a_certificate_of_the_registry_is_made_anew_before_it_ends(
    days: int, reasons: list[str]
) -> None:
    site = sites()["apart"]
    ca = authority.make_authority("x")
    pem = authority.issue(ca, name="registry", names=["images"]).certificate_pem
    now = authority.expiry(pem).timestamp() - days * 86400 + 60
    facts = bare(site)
    (step,) = steps_of("registry", registry.PART, site, facts)
    done = {"registry": PartFacts(step.arguments["mlstead_inputs"])}
    for answer in (Answer(0, pem), Answer(1, ""), Answer(0, "no certificate")):
        host = replace(
            facts.hosts["images"],
            system={**SYSTEM, "clock": now},
            parts=done,
            answers={registry.CERTIFICATE: answer},
        )
        found = replace(facts, hosts={**facts.hosts, "images": host})
        steps = steps_of("registry", registry.PART, site, found)
        told = [word for one in steps for word in one.reasons]
        assert told == (reasons if answer.out == pem else [])
