"""The objects of one task in a cluster as plain data: Job, Service, what its pods are given."""

import math
from typing import Any, Final

from mlstead.engines.base import Reason, Task
from mlstead.engines.kubernetes.settings import Settings

Object = dict[str, Any]
OVERHEAD: Final = 32 << 20  # bytes that our own process in a pod may take
PORT: Final = 29500  # where the first worker is met, as torchrun has it
KEPT: Final = 7 * 86400  # seconds that a finished Job stays in the cluster
USER: Final = 65532  # nobody in particular, as in distroless images
LAST_WORDS: Final = 20  # seconds after a program's grace in which its pod sends what is left
AGAIN, KILLED = 90, 137  # exit codes: runner/pod.py may be tried again; ended for its memory
NOT_STARTED: Final = 128  # what Kubernetes gives a container that could not be started
CANCEL: Final = "mlstead.io/cancel"
END: Final = "mlstead.io/end"
ENDED: Final = "mlstead.io/ended"
REQUEST: Final = "mlstead.io/request"
SENT: Final = "mlstead.io/sent"  # when, in seconds: the cluster writes whole ones
HOME: Final = "mlstead.io/home"
TASK: Final = "mlstead.io/task"
FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"
_DISRUPTED: Final = {Reason.EVICTED, Reason.PREEMPTED, Reason.LOST}


def name_of(task_id: str, token: str) -> str:
    """Name a task's objects: two laptops may use the same ids in one namespace."""
    return f"{task_id}-{token[:6]}"


def labels_of(task_id: str, settings: Settings) -> Object:
    """Give the labels of all objects of a task."""
    return {"app.kubernetes.io/managed-by": "mlstead", HOME: settings.token, TASK: task_id}


def given(task: Task, settings: Settings) -> Object:
    """Give what the first process of each pod reads: everything but secrets."""
    name, workers = name_of(task.id, settings.token), task.workers
    group = workers.count > 1
    hosts = [f"{name}-{number}.{name}" for number in range(workers.count)] if group else []
    reasons = [str(it) for it in task.retry.reasons] if task.retry.max else []
    return {
        "id": task.id,
        "command": list(task.command),
        "env": dict(task.env),
        "code": task.code is not None,
        "working_dir": task.working_dir,
        "inputs": [{"name": it.name, "mode": it.mode} for it in task.inputs],
        "outputs": [it for it in task.outputs if it not in task.ranks],
        "values": list(task.values),
        "ranks": list(task.ranks),
        "secrets": [{"name": it.name, "env": it.env, "file": it.file} for it in task.secrets],
        "workers": {
            "count": workers.count,
            "processes": workers.processes,
            "framework": workers.framework,
            "launcher": workers.launcher,
        },
        "retry": reasons,
        "timeout": task.timeout,
        "grace": task.grace,
        "ports": dict(task.ports),
        "gpu": task.resources.gpu,
        "master": hosts[0] if hosts else "",
        "hosts": hosts,
        "port": PORT,
    }


def job(task: Task, settings: Settings) -> Object:
    """Make the Job; its image is filled in when the task's own is made."""
    name = name_of(task.id, settings.token)
    labels = labels_of(task.id, settings)
    count = task.workers.count
    fail = "FailJob" if count > 1 else "FailIndex"
    spec: Object = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": count,
        "ttlSecondsAfterFinished": KEPT,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _rules(task, fail)},
        "template": {"metadata": {"labels": labels}, "spec": _pod(task, name)},
    }
    if count > 1:
        spec["backoffLimit"] = 0
    else:
        spec["backoffLimitPerIndex"] = task.retry.max
    annotations = {f"labels.mlstead.io/{number}": f"{key}={value}"
                   for number, (key, value) in enumerate(sorted(task.labels.items()))}  # fmt: skip
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": spec,
    }


def _rules(task: Task, fail: str) -> list[Object]:
    """Say which ends count as one more try, and which are the end."""
    reasons = set(task.retry.reasons) if task.retry.max else set()
    disrupted = "Count" if _DISRUPTED & reasons else fail
    killed = "Count" if Reason.OOM in reasons else fail

    def codes(action: str, operator: str, *values: int) -> Object:
        return {"action": action, "onExitCodes": {"operator": operator, "values": sorted(values)}}

    return [
        {
            "action": disrupted,
            "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
        },
        # the container could not be started, so nothing of the task ran: another pod, and no try
        codes("Ignore", "In", NOT_STARTED),
        codes(killed, "In", KILLED),
        codes(fail, "NotIn", AGAIN, KILLED, NOT_STARTED),
    ]


def _pod(task: Task, name: str) -> Object:
    wanted = task.resources
    memory = wanted.memory + OVERHEAD
    limits: Object = {"memory": str(memory)}
    requests: Object = {"memory": str(memory), "cpu": f"{max(1, round(wanted.cpu * 1000))}m"}
    if wanted.gpu:
        limits["nvidia.com/gpu"] = requests["nvidia.com/gpu"] = str(wanted.gpu)
    container: Object = {
        "name": "main",
        "image": "",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-I", "-S", "/mlstead/runner/runner.zip"],
        "env": [_failures()],
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {"limits": limits, "requests": requests},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "task", "mountPath": "/mlstead/task", "readOnly": True},
            {"name": "runner", "mountPath": "/mlstead/runner", "readOnly": True},
            {"name": "secret", "mountPath": "/mlstead/secret", "readOnly": True},
            {"name": "run", "mountPath": "/mlstead/run"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    if task.ports:
        container["ports"] = [{"containerPort": it} for it in sorted(set(task.ports.values()))]
    pod: Object = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": math.ceil(task.grace) + LAST_WORDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": _volumes(task, name),
    }
    if task.workers.count > 1:
        pod["subdomain"] = name
    if wanted.gpu_kinds:
        pod["affinity"] = _kinds(wanted.gpu_kinds)
    return pod


def _failures() -> Object:
    """Let a pod know which try it is."""
    path = f"metadata.annotations['{FAILURES}']"
    return {"name": "MLSTEAD_POD_FAILURES", "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _volumes(task: Task, name: str) -> list[Object]:
    wanted = task.resources
    run: Object = {"sizeLimit": str(wanted.disk)} if wanted.disk else {}
    shm = wanted.shm or wanted.memory // 2
    return [
        {"name": "task", "configMap": {"name": name}},
        {"name": "runner", "configMap": {"name": ""}},
        {"name": "secret", "secret": {"secretName": name, "defaultMode": 0o440}},
        {"name": "run", "emptyDir": run},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": str(shm)}},
    ]


def _kinds(kinds: tuple[str, ...]) -> Object:
    term = {"key": "nvidia.com/gpu.product", "operator": "In", "values": list(kinds)}
    terms = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def filled(job: Object, image: str, runner: str) -> Object:
    """Give a Job with the image and the runner that its pods use."""
    spec = job["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    volumes = [
        {**it, "configMap": {"name": runner}} if it["name"] == "runner" else it
        for it in spec["volumes"]
    ]
    pod = {**spec, "containers": [{**container, "image": image}], "volumes": volumes}
    template = {**job["spec"]["template"], "spec": pod}
    return {**job, "spec": {**job["spec"], "template": template}}


def service(task_id: str, settings: Settings) -> Object:
    """Make the headless Service by which workers find each other, before they are ready too."""
    name, labels = name_of(task_id, settings.token), labels_of(task_id, settings)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": labels},
        "spec": {"clusterIP": "None", "selector": labels, "publishNotReadyAddresses": True},
    }
