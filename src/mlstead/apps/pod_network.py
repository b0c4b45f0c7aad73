"""The pod network, and who may talk to whom in it, by kindnet: plain routes between nodes."""

from typing import Any, Final

from mlstead.apps._objects import daemon_set, image_named, labelled, reader
from mlstead.plan import Component, Facts, Step, object_steps
from mlstead.spec.site import Site

NAMESPACE: Final = "kube-system"
NAME: Final = "kindnet"
READS: Final = (("", ("nodes", "pods", "namespaces")), ("networking.k8s.io", ("networkpolicies",)))


def _plan(site: Site, facts: Facts) -> list[Step]:
    if site.kubernetes.distribution != "kubeadm":
        return []
    objects = [*reader(NAME, NAMESPACE, READS), _daemon(image_named(facts, "kindnet", "kindnetd"))]
    wait = (("-n", NAMESPACE, "rollout", "status", f"daemonset/{NAME}"),
            ("wait", "--for=condition=Ready", "nodes", "--all"),
            ("-n", NAMESPACE, "rollout", "status", "deployment/coredns"))  # fmt: skip
    return object_steps("pod_network", PART, labelled(site, "pod_network", objects), facts, wait)


def _daemon(image: str) -> dict[str, Any]:
    """Describe the daemon: it writes the CNI configuration, routes, and rules for policies."""
    container = {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--hostname-override=$(NODE_NAME)",
            "--fastpath-threshold=0",
            "--disable-nri",
            "--metrics-bind-address=127.0.0.1:19080",
        ],
        "env": [
            _field("NODE_NAME", "spec.nodeName"),
            _field("HOST_IP", "status.hostIP"),
            _field("POD_IP", "status.podIP"),
        ],
        "resources": {"requests": {"cpu": "50m", "memory": "50Mi"}, "limits": {"memory": "200Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
        },
        "volumeMounts": [{"name": "cni", "mountPath": "/etc/cni/net.d"}],
    }
    cni = {"path": "/etc/cni/net.d", "type": "DirectoryOrCreate"}
    return daemon_set(NAME, NAMESPACE, [container], [{"name": "cni", "hostPath": cni}])


def _field(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _unmet(site: Site, facts: Facts) -> list[str]:
    if site.kubernetes.distribution != "kubeadm" or facts.bundle is None:
        return []
    lacks = [] if image_named(facts, "kindnet", "kindnetd") else ["the bundle has no kindnet image"]
    if not any(file.path == "cni/cni-kindnet" for file in facts.bundle.files):
        lacks.append("the bundle has no cni/cni-kindnet")
    return lacks


PART = Component("Connect the pods", "apps", plan=_plan, needs=("cluster_dns",), unmet=_unmet)
