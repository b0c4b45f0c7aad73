"""The default StorageClass on the nodes' own disks: for labs, and for sites of one machine."""

import json
from typing import Any, Final

from pydantic import Field

from mlstead.apps._objects import image_named, labelled, namespace
from mlstead.apps._options import chosen
from mlstead.plan import VOLUMES, Component, Facts, Step, object_steps
from mlstead.spec.base import Model
from mlstead.spec.site import Site

NAME: Final = "local-path"
NAMESPACE: Final = "mlstead-storage"
PROVISIONER: Final = "mlstead.io/local-path"
READ: Final = ("get", "list", "watch")
SETUP: Final = """\
#!/bin/sh
set -eu
mkdir -p "$VOL_DIR"
chmod 0777 "$VOL_DIR"
"""
TEARDOWN: Final = """\
#!/bin/sh
set -eu
rm -rf "$VOL_DIR"
"""


class Options(Model):
    """Volumes on the disk of the node where a pod runs; they stay on that node."""

    default: bool = Field(
        default=True, description="Whether claims that name no class are given this one."
    )


OPTIONS: Final = Options


def _plan(site: Site, facts: Facts) -> list[Step]:
    options = chosen(site, "local_path", Options)
    if options is None:
        return []
    helper = image_named(facts, "busybox")
    objects = [
        namespace(NAMESPACE, "privileged"),
        *_account(),
        _settings(helper),
        _deployment(_container(image_named(facts, "local-path-provisioner"), helper)),
        _storage_class(options.default),
    ]
    wait = (("-n", NAMESPACE, "rollout", "status", f"deployment/{NAME}"),)
    return object_steps("local_path", PART, labelled(site, "local_path", objects), facts, wait)


def _account() -> list[dict[str, Any]]:
    """Give its account: volumes of the cluster, but pods and settings of its namespace only."""
    rbac = "rbac.authorization.k8s.io"
    here = {"name": NAME, "namespace": NAMESPACE}
    everywhere = {"name": f"mlstead:{NAME}"}
    subjects = [{"kind": "ServiceAccount", **here}]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": here},
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "Role",
            "metadata": here,
            "rules": [
                _rule("", ["pods"], [*READ, "create", "delete"]),
                _rule("", ["pods/log", "configmaps"], READ),
            ],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "RoleBinding",
            "metadata": here,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": NAME},
            "subjects": subjects,
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRole",
            "metadata": everywhere,
            "rules": [
                _rule("", ["nodes", "persistentvolumeclaims"], READ),
                _rule("", ["persistentvolumes"], [*READ, "create", "patch", "update", "delete"]),
                _rule("", ["events"], ["create", "patch"]),
                _rule("storage.k8s.io", ["storageclasses"], READ),
            ],
        },
        {
            "apiVersion": f"{rbac}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": everywhere,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", **everywhere},
            "subjects": subjects,
        },
    ]


def _rule(group: str, resources: list[str], verbs: Any) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


def _settings(helper: str) -> dict[str, Any]:
    """Give its settings: where volumes lie, and the pod that makes and removes their folders."""
    container = {
        "name": "helper-pod",
        "image": helper,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "priorityClassName": "system-node-critical",
            "automountServiceAccountToken": False,
            "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
            "containers": [container],
        },
    }
    paths = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [VOLUMES]}]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "data": {
            "config.json": json.dumps({"nodePathMap": paths}),
            "helperPod.yaml": json.dumps(pod),
            "setup": SETUP,
            "teardown": TEARDOWN,
        },
    }


def _container(image: str, helper: str) -> dict[str, Any]:
    field = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    return {
        "name": NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["local-path-provisioner", "start"],
        "args": [
            "--config=/etc/config/config.json",
            f"--configmap-name={NAME}",
            f"--service-account-name={NAME}",
            f"--provisioner-name={PROVISIONER}",
            f"--helper-image={helper}",
            "--health-port=8080",
        ],
        "env": [
            {"name": "POD_NAMESPACE", "valueFrom": field},
            {"name": "CONFIG_MOUNT_PATH", "value": "/etc/config/"},
        ],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 2},
        "livenessProbe": {
            "httpGet": {"path": "/health", "port": 8080},
            "initialDelaySeconds": 30,
            "failureThreshold": 6,
        },
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/config"}],
    }


def _deployment(container: dict[str, Any]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": NAME}
    pod = {
        "serviceAccountName": NAME,
        "priorityClassName": "system-cluster-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def _storage_class(default: bool) -> dict[str, Any]:
    mark = {"storageclass.kubernetes.io/is-default-class": str(default).lower()}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": NAME, "annotations": mark},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _unmet(site: Site, facts: Facts) -> list[str]:
    if "local_path" not in site.apps or facts.bundle is None:
        return []
    names = ("local-path-provisioner", "busybox")
    return [f"the bundle has no image {name}" for name in names if not image_named(facts, name)]


PART = Component(
    "Give volumes on the nodes' disks", "apps", plan=_plan, needs=("pod_network",), unmet=_unmet
)
