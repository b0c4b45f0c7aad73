"""The cluster by kubeadm: one control plane, and workers that join it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.plan import (
    KUBECTL,
    OURS,
    SITE_LABEL,
    Component,
    Facts,
    Port,
    Probe,
    asks_cluster,
)
from mlstead.spec.site import Site

API: Final = 6443
KINDS: Final = (
    "namespaces,serviceaccounts,configmaps,services,daemonsets,deployments,roles,rolebindings,"
    "clusterroles,clusterrolebindings,storageclasses,apiservices"
)
"""The kinds of objects that apps consist of."""


def _machines(site: Site) -> Sequence[str]:
    return site.nodes


def _common(site: Site, facts: Facts, machine: str) -> dict[str, Any]:
    head = site.with_role("control-plane")[0]
    old = machine in facts.hosts and facts.hosts[machine].system.get("cgroups") == 1
    return {
        "kubeadm_mode": "init" if machine == head else "join",
        "kubeadm_head": head,
        "kubeadm_node": machine,
        "kubeadm_address": site.machines[machine].address,
        "kubeadm_endpoint": f"{site.machines[head].address}:{API}",
        "kubeadm_pods": site.kubernetes.pods,
        "kubeadm_kubelet": {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "systemd",
            # All nodes share these: what one of them is must not change them for the others.
            "failCgroupV1": False,
            "rotateCertificates": True,
            # Signed by the cluster's authority once kubelet_certificates has approved it.
            "serverTLSBootstrap": True,
            **site.kubernetes.kubelet,
        },
        # Control groups v1 still work with the kubelet, but kubeadm refuses them at first.
        "kubeadm_ignore": ["SystemVerification"] if old else [],
    }


def _inputs(site: Site, facts: Facts, machine: str) -> Mapping[str, Any]:
    common = _common(site, facts, machine)
    if common["kubeadm_mode"] == "join":
        return common
    systems = [facts.hosts[name].system for name in site.nodes if name in facts.hosts]
    proxy: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
    }
    if not all(system.get("resources", True) for system in systems):
        proxy["conntrack"] = {"maxPerCore": 0, "min": 0}
    versions = facts.bundle.versions if facts.bundle else {}
    worker = "worker" in site.machines[machine].roles
    taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
    return {
        **common,
        "kubeadm_site": site.name,
        "kubeadm_version": versions.get("kubernetes", ""),
        "kubeadm_dns_tag": versions.get("coredns", ""),
        "kubeadm_etcd_tag": versions.get("etcd", ""),
        "kubeadm_services": site.kubernetes.services,
        "kubeadm_taints": [] if worker or len(site.nodes) == 1 else [taint],
        "kubeadm_proxy": proxy,
    }


def _ports(site: Site) -> Sequence[Port]:
    login = "a certificate or token of the cluster"
    heads = site.with_role("control-plane")
    return [Port(name, API, "kube-apiserver", "anywhere", login) for name in heads] + [
        Port(name, number, "etcd", "loopback", "a certificate")
        for name in heads
        for number in (2379, 2380)
    ]


def _probes(site: Site, machine: str) -> Sequence[Probe]:
    if not asks_cluster(site, machine):
        return ()
    patience = "--request-timeout=10s"
    # Not all that is managed by us: what people's runs consist of may be much.
    marked = f"{OURS},{SITE_LABEL}"
    found = (
        Probe("objects", (*KUBECTL, "get", KINDS, "-A", "-l", marked, "-o", "json", patience)),
        Probe("nodes", (*KUBECTL, "get", "nodes", "-o", "json", patience)),
    )
    if machine not in site.machines:
        return found
    command = ("kubeadm", "certs", "check-expiration", "-o", "json")
    return (*found, Probe("certificates", command))


def _unmet(site: Site, facts: Facts) -> list[str]:
    if facts.bundle is None or not site.nodes:
        return []
    found = facts.bundle.versions.get("kubernetes", "")
    wanted = site.kubernetes.version
    if not found:
        return ["the bundle has no image kube-apiserver"]
    if found.startswith(f"v{wanted}."):
        return []
    return [f"the bundle has Kubernetes {found}, and the site asks for {wanted}"]


PART = Component(
    "Make the cluster",
    "cluster",
    machines=_machines,
    inputs=_inputs,
    needs=("kubelet", "containerd"),
    ports=_ports,
    probes=_probes,
    unmet=_unmet,
)
