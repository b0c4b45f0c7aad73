"""A work file may say where its pod runs, never what it may do nor what is ours."""

from __future__ import annotations

import copy
import json
from types import MappingProxyType
from typing import Any

import pytest
from tests.unit.engines.kubernetes.cluster_objects import SETTINGS, task

from mlstead.engines.kubernetes import manifests
from mlstead.engines.kubernetes.native import patched
from mlstead.errors import UserError

JOB = manifests.job(task(workers=2), SETTINGS)
POD = JOB["spec"]["template"]["spec"]
VOLUMES = POD["volumes"]


def of_pod(**fields: Any) -> dict[str, Any]:
    return {"spec": {"template": {"spec": fields}}}


def with_volumes(*more: Any) -> dict[str, Any]:
    return of_pod(volumes=[*VOLUMES, *more])


@pytest.mark.parametrize(
    "patch",
    [
        of_pod(nodeSelector={"disk": "fast"}),
        of_pod(tolerations=[{"key": "gpu", "operator": "Exists"}]),
        of_pod(priorityClassName="low", runtimeClassName="nvidia", schedulerName="own"),
        of_pod(affinity={"nodeAffinity": {}}, topologySpreadConstraints=[]),
        of_pod(imagePullSecrets=[{"name": "registry"}], terminationGracePeriodSeconds=600),
        with_volumes({"name": "mine", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}),
        {"metadata": {"annotations": {"team": "vision"}, "labels": {"kueue.x-k8s.io/queue": "q"}}},
        {"spec": {"template": {"metadata": {"annotations": {"sidecar.istio.io/inject": "false"}}}}},
        {"spec": {"ttlSecondsAfterFinished": 60, "activeDeadlineSeconds": 3600, "suspend": True}},
    ],
)
def test_where_and_how_long_a_pod_runs_may_be_said(patch: dict[str, Any]) -> None:
    before = copy.deepcopy(JOB)
    merged = patched(JOB, patch)
    assert merged != JOB
    assert before == JOB

    def inside(part: Any, whole: Any) -> bool:
        if isinstance(part, dict):
            return all(inside(value, whole[name]) for name, value in part.items())
        return bool(part == whole)

    assert inside(patch, merged)


@pytest.mark.parametrize("patch", [None, {}])
def test_no_patch_changes_nothing(patch: Any) -> None:
    assert patched(JOB, patch) == JOB


def test_a_frozen_patch_gives_plain_data() -> None:
    frozen = MappingProxyType
    toleration = frozen({"key": "gpu", "values": ("a", frozen({"b": 1}))})
    patch = frozen({"spec": frozen({"template": frozen({"spec": frozen({
        "tolerations": (toleration,), "nodeSelector": frozen({"disk": "fast"}),
    })})})})  # fmt: skip
    spec = json.loads(json.dumps(patched(JOB, patch)))["spec"]["template"]["spec"]
    assert spec["tolerations"] == [{"key": "gpu", "values": ["a", {"b": 1}]}]
    assert spec["nodeSelector"] == {"disk": "fast"}


def test_null_removes_what_is_not_ours() -> None:
    merged = patched(JOB, {"spec": {"ttlSecondsAfterFinished": None}})
    assert "ttlSecondsAfterFinished" not in merged["spec"]


CONTAINER = {**POD["containers"][0], "image": "x"}
PRIVILEGED = {**CONTAINER, "securityContext": {"privileged": True}}
APPARMOR = "container.apparmor.security.beta.kubernetes.io/main"


@pytest.mark.parametrize(
    "patch",
    [
        *(of_pod(**{name: True}) for name in ("hostNetwork", "hostPID", "hostIPC", "hostUsers")),
        of_pod(serviceAccountName="admin"),
        of_pod(serviceAccount="admin"),
        of_pod(automountServiceAccountToken=True),
        of_pod(automountServiceAccountToken=None),
        of_pod(shareProcessNamespace=True),
        of_pod(os={"name": "windows"}),
        of_pod(restartPolicy="OnFailure"),
        of_pod(subdomain=None),
        of_pod(hostname="other"),
        of_pod(securityContext=None),
        of_pod(securityContext={"runAsUser": 0}),
        of_pod(securityContext={"seccompProfile": {"type": "Unconfined"}}),
        of_pod(securityContext={"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "0"}]}),
        of_pod(securityContext={"windowsOptions": {"hostProcess": True}}),
        of_pod(containers=[PRIVILEGED]),
        of_pod(containers=[CONTAINER]),
        of_pod(containers=[]),
        of_pod(containers=None),
        of_pod(containers=[*POD["containers"], {"name": "other", "image": "x"}]),
        of_pod(initContainers=[PRIVILEGED]),
        of_pod(ephemeralContainers=[PRIVILEGED]),
        of_pod(volumes=None),
        of_pod(volumes=[]),
        of_pod(volumes=VOLUMES[1:]),
        of_pod(volumes="run"),
        of_pod(volumes=7),
        of_pod(volumes=["run"]),
        of_pod(volumes=[7, None]),
        of_pod(volumes={"name": "run"}),
        with_volumes({"name": "h", "hostPath": {"path": "/"}}),
        with_volumes({"name": "h", "emptyDir": {}, "hostPath": {"path": "/"}}),
        with_volumes({"name": "n", "nfs": {"server": "s", "path": "/"}}),
        with_volumes({"name": "i", "image": {"reference": "x"}}),
        of_pod(volumes=[*VOLUMES[:2], {"name": "secret", "secret": {"secretName": "other"}},
                        *VOLUMES[3:]]),
    ],
)  # fmt: skip
def test_what_a_pod_may_do_cannot_be_changed(patch: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"^native\.kubernetes\.spec\.template\.spec\."):
        patched(JOB, patch)


@pytest.mark.parametrize(
    "patch",
    [
        {"apiVersion": "v1"},
        {"kind": "Pod"},
        {"kind": None},
        {"metadata": {"name": "other"}},
        {"metadata": {"generateName": "other-"}},
        {"metadata": {"namespace": "kube-system"}},
        {"metadata": {"ownerReferences": [{"kind": "Job"}]}},
        {"metadata": {"finalizers": ["for.ever/mine"]}},
        {"metadata": {"labels": None}},
        {"metadata": {"labels": {manifests.HOME: "other"}}},
        {"metadata": {"labels": {manifests.TASK: None}}},
        {"metadata": {"labels": {manifests.ENDED: "true"}}},
        {"metadata": {"labels": 7}},
        {"metadata": {"annotations": {manifests.CANCEL: "{}"}}},
        {"metadata": {"annotations": 7}},
        {"metadata": None},
        {"metadata": 7},
        {"spec": None},
        {"spec": 7},
        {"spec": {"template": None}},
        {"spec": {"template": "x"}},
        {"spec": {"template": {"spec": None}}},
        {"spec": {"template": {"spec": "x"}}},
        {"spec": {"template": {"metadata": None}}},
        {"spec": {"template": {"metadata": {"labels": {manifests.TASK: "other"}}}}},
        {"spec": {"template": {"metadata": {"annotations": {APPARMOR: "unconfined"}}}}},
        {"spec": {"selector": {"matchLabels": {}}}},
        {"spec": {"manualSelector": True}},
        {"spec": {"completions": 5}},
        {"spec": {"parallelism": 0}},
        {"spec": {"completionMode": "NonIndexed"}},
        {"spec": {"podFailurePolicy": None}},
        {"spec": {"backoffLimit": 6}},
        {"spec": {"backoffLimitPerIndex": 6}},
        {"spec": {"podReplacementPolicy": None}},
        {"spec": {"successPolicy": {"rules": []}}},
        {"status": {"succeeded": 1}},
        7,
        "text",
        ["x"],
    ],
)
def test_what_is_ours_cannot_be_changed_nor_lost(patch: Any) -> None:
    with pytest.raises(UserError, match=r"^native\.kubernetes\."):
        patched(JOB, patch)
