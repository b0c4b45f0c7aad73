"""Turns a Task into what is sent to a cluster: the Job, and what its pods are given; pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from mlstead.engines.base import Facts, Submission, Task
from mlstead.engines.kubernetes import manifests, native
from mlstead.engines.kubernetes.settings import Settings
from mlstead.errors import UserError

NAME: Final = "kubernetes"
_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TREE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SECRET = re.compile(r"[A-Za-z0-9_.-]{1,200}")
_WORKERS = 999  # the longest name of a pod is a job's, a dash and three digits
_LARGEST = 900_000  # bytes that a ConfigMap takes, with some to spare


def is_id(task_id: str) -> bool:
    """Say whether a task could have this id."""
    return _ID.fullmatch(task_id) is not None


def prepare(task: Task, facts: Facts, settings: Settings) -> Submission:
    """Make the request.

    Raises:
        UserError: something is asked for that this engine or the cluster does not have.
    """
    _check_names(task)
    _check_supported(task)
    _check_fits(task, facts)
    if not task.image and not settings.image:
        raise UserError(
            "image: the work file names none, and the context has no usual one",
            hint="add `image:`, or mlstead context add … --image HOST/NAME:TAG",
        )
    given = manifests.given(task, settings)
    params = thawed(task.params)
    if len(json.dumps(given)) + len(json.dumps(params)) > _LARGEST:
        raise UserError(
            "command, env and params: together more than 900 kB",
            hint="give large values as data, by a file",
        )
    job = native.patched(manifests.job(task, settings), task.native.get(NAME))
    request = {
        "namespace": str(facts.details.get("namespace") or "default"),
        "job": job,
        "task": given,
        "params": params,
        "image": task.image or settings.image,
        "code": None if task.code is None else _plain(task.code),
        "environment": None if task.environment is None else _plain(task.environment),
        "inputs": [_plain(wanted) for wanted in task.inputs],
        "secrets": sorted({secret.name for secret in task.secrets}),
    }
    return Submission(task.id, NAME, request)


def thawed(value: Any) -> Any:
    """Make plain lists and dicts of frozen ones."""
    if isinstance(value, Mapping):
        return {str(name): thawed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [thawed(one) for one in value]
    return value


def _plain(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _check_names(task: Task) -> None:
    if not is_id(task.id):
        raise UserError(f"task id {task.id!r} is not 1 to 52 of a-z, 0-9 and -")
    if not task.command or not task.command[0]:
        raise UserError("command: it is empty")
    files = [*task.outputs, *task.ranks, *(wanted.name for wanted in task.inputs)]
    files += [secret.file for secret in task.secrets if secret.file]
    for name in files:
        if not _FILE.fullmatch(name):
            raise UserError(f"{name!r} cannot be the name of an input, output or secret file")
    for secret in task.secrets:
        if not _SECRET.fullmatch(secret.name):
            raise UserError(f"secrets: {secret.name!r} cannot be a key of a Secret")
    if task.working_dir.startswith("/") or ".." in task.working_dir.split("/"):
        raise UserError(f"working_dir: {task.working_dir!r} leads out of the code")
    if task.code is not None and not _TREE.fullmatch(task.code.tree):
        raise UserError(f"code: {task.code.tree!r} is not the hash of a git tree")
    _check_texts(task)


def _check_texts(task: Task) -> None:
    """Refuse what no operating system can pass to a program."""
    texts = [*task.command, *task.env.values(), *task.env, *task.labels.values()]
    texts += [value for value in task.params.values() if isinstance(value, str)]
    if any("\0" in text for text in texts):
        raise UserError("command, env or params: a text has a NUL character in it")
    for name in task.env:
        if not name or "=" in name:
            raise UserError(f"env: {name!r} cannot be the name of a variable")


def _check_supported(task: Task) -> None:
    workers = task.workers
    group = workers.count > 1
    unsupported = {
        "native": bool(set(task.native) - {NAME}),
        "queue": bool(task.queue),
        "priority": bool(task.priority),
        "max_queue_time": task.max_queue_time is not None,
        "mounts": bool(task.mounts),
        "workers.framework ray": workers.framework == "ray",
        "data mode mount": any(wanted.mode == "mount" for wanted in task.inputs),
        "ports of several workers": bool(task.ports) and workers.count * workers.processes > 1,
        "retries of several workers": group and task.retry.max > 0,
        f"more than {_WORKERS} workers": workers.count > _WORKERS,
    }
    for field, asked in unsupported.items():
        if asked:
            raise UserError(f"{field}: not supported by engine kubernetes yet")


def _check_fits(task: Task, facts: Facts) -> None:
    """Refuse what no node can ever hold, unless it is to wait for one."""
    nodes = facts.details.get("nodes")
    if task.patient or not nodes:
        return
    wanted = task.resources
    for node in nodes:
        memory = wanted.memory + manifests.OVERHEAD
        if wanted.cpu <= node["cpu"] and memory <= node["memory"] and wanted.gpu <= node["gpu"]:
            return
    most = {key: max(node[key] for node in nodes) for key in ("cpu", "memory", "gpu")}
    raise UserError(
        f"resources: no node of the cluster is large enough: the most that one of them has is "
        f"cpu {most['cpu']:g}, memory {most['memory'] >> 20}Mi, gpu {most['gpu']}",
        hint="ask for less, or --wait for a node that is larger",
    )
