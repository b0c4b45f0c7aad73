"""A task becomes objects that a restricted namespace takes, or is refused by the field."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.engines.kubernetes.cluster_objects import SETTINGS

from mlstead.engines.base import (
    Code,
    Environment,
    Facts,
    Input,
    Reason,
    Resources,
    Retry,
    Secret,
    Task,
    Workers,
)
from mlstead.engines.kubernetes import manifests
from mlstead.engines.kubernetes.prepare import prepare
from mlstead.errors import UserError

NODES = [
    {"name": "a", "cpu": 4.0, "memory": 8 << 30, "gpu": 0, "kind": "gpu"},
    {"name": "b", "cpu": 2.0, "memory": 64 << 30, "gpu": 2, "kind": "A100"},
]
FACTS = Facts(6, 72 << 30, (), {"nodes": NODES, "namespace": "team"})
SMALL = Resources(0.1, 64 << 20)


def task(**fields: Any) -> Task:
    return Task(**{"id": "t", "command": ("true",), "resources": SMALL, **fields})


def request(**fields: Any) -> dict[str, Any]:
    return dict(prepare(task(**fields), FACTS, SETTINGS).request)


def pod(**fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = request(**fields)["job"]["spec"]["template"]["spec"]
    return found


# ---- the Pod Security Standard "restricted", as its documentation lists it

_TYPES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip


def violations(spec: dict[str, Any]) -> Iterator[str]:
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name))
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= _TYPES:
            yield f"volume {volume}"
    whole = spec.get("securityContext", {})
    yield from (it for it in ("sysctls", "seLinuxOptions", "windowsOptions") if whole.get(it))
    for container in spec["containers"] + spec.get("initContainers", []):
        checks = violated({**whole, **container.get("securityContext", {})})
        yield from (name for name, broken in checks.items() if broken)
        yield from ("hostPort" for port in container.get("ports", []) if port.get("hostPort"))


def violated(own: dict[str, Any]) -> dict[str, bool]:
    capabilities = own.get("capabilities", {})
    profile = own.get("seccompProfile", {})
    return {
        "privileged": bool(own.get("privileged")),
        "escalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities": capabilities.get("drop") != ["ALL"] or bool(capabilities.get("add")),
        "root": not own.get("runAsNonRoot") or own.get("runAsUser") == 0,
        "seccomp": profile.get("type") not in ("RuntimeDefault", "Localhost"),
        "kernel": own.get("procMount", "Default") != "Default" or "seLinuxOptions" in own,
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"workers": Workers(3), "native": {"kubernetes": {"spec": {"suspend": True}}}},
        {"ports": {"http": 8080, "other": 8081}, "resources": Resources(1, 1 << 30, 2, ("A100",))},
        {"secrets": (Secret("a", env="A"), Secret("b", file="b")), "grace": 0.5},
    ],
)
def test_every_pod_keeps_to_the_restricted_standard(fields: dict[str, Any]) -> None:
    spec = pod(**fields)
    assert list(violations(spec)) == []
    assert spec["automountServiceAccountToken"] is False
    assert spec["restartPolicy"] == "Never"


def test_the_check_of_the_standard_sees_what_breaks_it() -> None:
    loose = copy.deepcopy(pod())
    loose["containers"][0]["securityContext"] = {"privileged": True}
    loose["securityContext"] = {}
    loose["hostPID"] = True
    loose["volumes"].append({"name": "h", "hostPath": {"path": "/"}})
    found = "hostPID", "volume", "privileged", "escalation", "capabilities", "root", "seccomp"
    assert [it.split()[0] for it in violations(loose)] == list(found)


# ---- what the objects say


def test_names_fit_where_kubernetes_puts_them() -> None:
    one = request(id="a" * 52, workers=Workers(999))
    name = one["job"]["metadata"]["name"]
    assert len(f"{name}-998") <= 63
    assert len({*one["task"]["hosts"]}) == 999
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)


def test_memory_is_a_limit_and_cpu_a_request() -> None:
    (container,) = pod(resources=Resources(0.25, 1 << 30, 1))["containers"]
    memory = str((1 << 30) + manifests.OVERHEAD)
    assert container["resources"] == {
        "limits": {"memory": memory, "nvidia.com/gpu": "1"},
        "requests": {"memory": memory, "cpu": "250m", "nvidia.com/gpu": "1"},
    }


def test_a_grace_leaves_time_for_last_words() -> None:
    assert pod(grace=30.2)["terminationGracePeriodSeconds"] == 31 + manifests.LAST_WORDS


@pytest.mark.parametrize(
    ("retry", "actions"),
    [
        (Retry(), ("FailIndex", "Ignore", "FailIndex", "FailIndex")),
        (Retry(2), ("Count", "Ignore", "Count", "FailIndex")),
        (Retry(2, (Reason.ERROR,)), ("FailIndex", "Ignore", "FailIndex", "FailIndex")),
        (Retry(2, (Reason.EVICTED,)), ("Count", "Ignore", "FailIndex", "FailIndex")),
        (Retry(0, (Reason.OOM,)), ("FailIndex", "Ignore", "FailIndex", "FailIndex")),
    ],
)
def test_what_is_tried_again_is_up_to_the_task(retry: Retry, actions: tuple[str, ...]) -> None:
    one = request(retry=retry)
    spec = one["job"]["spec"]
    assert tuple(it["action"] for it in spec["podFailurePolicy"]["rules"]) == actions
    assert spec["backoffLimitPerIndex"] == retry.max
    assert one["task"]["retry"] == ([str(it) for it in retry.reasons] if retry.max else [])


def test_a_request_is_plain_data_without_secrets_and_the_same_each_time() -> None:
    fields: dict[str, Any] = {
        "params": {"a": ({"b": (1, 2)},), "c": None}, "environment": Environment("k", "x==1\n"),
        "code": Code("/store", "0" * 40), "inputs": (Input("data", "/d"),),
        "secrets": (Secret("hook", env="H"), Secret("hook", file="h"), Secret("a", env="A")),
    }  # fmt: skip
    one = request(**fields)
    assert json.loads(json.dumps(one)) == one == request(**fields)
    assert one["secrets"] == ["a", "hook"]
    assert one["params"] == {"a": [{"b": [1, 2]}], "c": None}


# ---- what is refused


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"id": "A"}, "task id 'A'"),
        ({"id": "a" * 53}, "task id"),
        ({"id": "a-"}, "task id"),
        ({"id": "../x"}, "task id"),
        ({"command": ()}, "command: it is empty"),
        ({"command": ("",)}, "command: it is empty"),
        ({"command": ("a\0b",)}, "NUL"),
        ({"env": {"A": "\0"}}, "NUL"),
        ({"env": {"A=B": "1"}}, "env: 'A=B'"),
        ({"env": {"": "1"}}, "env: ''"),
        ({"outputs": ("../x",)}, "'../x' cannot be the name"),
        ({"outputs": (".hidden",)}, "'.hidden' cannot be the name"),
        ({"ranks": ("a/b",)}, "'a/b' cannot be the name"),
        ({"inputs": (Input("..", "/d"),)}, "'..' cannot be the name"),
        ({"secrets": (Secret("a", file="../../x"),)}, "cannot be the name"),
        ({"secrets": (Secret("a/b", env="A"),)}, "'a/b' cannot be a key"),
        ({"working_dir": "/etc"}, "leads out of the code"),
        ({"working_dir": "a/../../b"}, "leads out of the code"),
        ({"code": Code("/s", "HEAD")}, "not the hash of a git tree"),
        ({"native": {"slurm": {}}}, "native: not supported"),
        ({"queue": "q"}, "queue: not supported"),
        ({"priority": 1}, "priority: not supported"),
        ({"max_queue_time": 1.0}, "max_queue_time: not supported"),
        ({"mounts": {"/d": "v"}}, "mounts: not supported"),
        ({"workers": Workers(framework="ray")}, "framework ray: not supported"),
        ({"inputs": (Input("d", "/d", "mount"),)}, "mode mount: not supported"),
        ({"ports": {"a": 1}, "workers": Workers(2)}, "ports of several workers"),
        ({"ports": {"a": 1}, "workers": Workers(1, 2)}, "ports of several workers"),
        ({"retry": Retry(1), "workers": Workers(2)}, "retries of several workers"),
        ({"workers": Workers(1000)}, "more than 999 workers"),
        ({"env": {"A": "x" * 900_000}}, "together more than 900 kB"),
        ({"params": {"a": "x" * 900_000}}, "together more than 900 kB"),
        ({"command": ("é" * 200_000,)}, "together more than 900 kB"),
        ({"native": {"kubernetes": {"kind": "Pod"}}}, "native.kubernetes.kind"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        request(**fields)


@pytest.mark.parametrize(
    "wanted", [Resources(5, 1 << 30), Resources(1, 64 << 30), Resources(3, 1 << 30, 1)]
)
def test_what_no_node_holds_is_refused_unless_it_may_wait(wanted: Resources) -> None:
    with pytest.raises(UserError, match=r"the most that one of them has is cpu 4, memory 65536Mi"):
        request(resources=wanted)
    assert request(resources=wanted, patient=True)


@pytest.mark.parametrize("wanted", [Resources(4, 4 << 30), Resources(2, 63 << 30, 2)])
def test_what_a_node_holds_is_taken(wanted: Resources) -> None:
    assert request(resources=wanted)


def test_without_figures_nothing_is_refused_for_its_size() -> None:
    many: list[dict[str, Any]] = [{}, {"nodes": []}]
    for details in many:
        assert prepare(task(resources=Resources(999)), Facts(0, 0, (), details), SETTINGS)


def test_a_task_without_any_image_is_refused() -> None:
    bare = type(SETTINGS)(SETTINGS.folder, SETTINGS.home, SETTINGS.token)
    with pytest.raises(UserError, match="image: the work file names none"):
        prepare(task(), FACTS, bare)
    assert prepare(task(image="x"), FACTS, bare).request["image"] == "x"
