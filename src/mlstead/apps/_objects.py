"""Kubernetes objects that several apps have."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlstead.plan import KUBECTL, Facts, Probe, asks_cluster, mark
from mlstead.spec.site import Site

MANAGED: Final = {"app.kubernetes.io/managed-by": "mlstead"}


def labelled(site: Site, app: str, objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mark objects as ours, and as an app's, so that they are found again."""
    found = []
    for one in objects:
        metadata = {**one["metadata"]}
        metadata["labels"] = {**metadata.get("labels", {}), **MANAGED, **mark(site, app)}
        found.append({**one, "metadata": metadata})
    return found


def image_named(facts: Facts, *names: str) -> str:
    """Give the image of the bundle with one of some last names, the tag left aside; or ""."""
    images = facts.bundle.images if facts.bundle else ()
    return next((it for it in images if it.rsplit("/", 1)[-1].split(":")[0] in names), "")


def image_parts(image: str) -> dict[str, str]:
    """Split an image's name as charts want it."""
    repository, _, tag = image.rpartition(":")
    return {"repository": repository, "tag": tag}


def namespace(name: str, level: str) -> dict[str, Any]:
    """Give a namespace whose pods may do no more than a level of the pod security standards."""
    labels = {"pod-security.kubernetes.io/enforce": level}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


def objects_probe(site: Site, machine: str, app: str, kinds: str) -> Sequence[Probe]:
    """Ask the cluster for all objects of kinds that not every cluster knows."""
    if not asks_cluster(site, machine):
        return ()
    words = ("get", kinds, "-A", "-o", "json", "--request-timeout=10s")
    return (Probe(f"objects:{app}", (*KUBECTL, *words)),)


def reader(
    name: str, namespace: str, reads: Sequence[tuple[str, Sequence[str]]]
) -> list[dict[str, Any]]:
    """Give an account that may list and watch some resources everywhere, and nothing else."""
    rules = [
        {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}
        for group, resources in reads
    ]
    return account(name, namespace, rules)


def account(name: str, namespace: str, rules: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Give a service account with a cluster role of its own."""
    rbac = "rbac.authorization.k8s.io"
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace},
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": {"name": f"mlstead:{name}"},
            "rules": list(rules),
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": f"mlstead:{name}"},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": f"mlstead:{name}"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]


def daemon_set(
    name: str,
    namespace: str,
    containers: Sequence[Mapping[str, Any]],
    volumes: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Give a daemon that every node has, on the node's own network."""
    labels = {"app.kubernetes.io/name": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": name,
                    "hostNetwork": True,
                    "priorityClassName": "system-node-critical",
                    "tolerations": [{"operator": "Exists"}],
                    "containers": list(containers),
                    "volumes": list(volumes),
                },
            },
        },
    }
