"""Turns a Task into the request that the keeper and its supervisors understand; pure."""

import re
from collections.abc import Mapping
from typing import Any

from mlstead.engines.base import Facts, Resources, Submission, Task
from mlstead.errors import UserError

NAME = "local"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,51}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TREE = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def is_id(task_id: str) -> bool:
    """Say whether a task could have this id."""
    return _ID.fullmatch(task_id) is not None


def prepare(task: Task, facts: Facts) -> Submission:
    """Make the request.

    Raises:
        UserError: something is asked for that this engine or this machine does not have.
    """
    _check_names(task)
    _check_supported(task)
    _check_fits(task, facts)
    return Submission(task.id, NAME, _request(task, facts.details))


def _request(task: Task, details: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "command": list(task.command),
        "env": dict(task.env),
        "params": _thawed(task.params),
        "code": None if task.code is None else _plain(task.code),
        "working_dir": task.working_dir,
        "environment": None if task.environment is None else _plain(task.environment),
        "inputs": [_plain(wanted) for wanted in task.inputs],
        "outputs": list(task.outputs),
        "values": list(task.values),
        "ranks": list(task.ranks),
        "secrets": [_plain(secret) for secret in task.secrets],
        "resources": _plain(task.resources) | {"gpu_kinds": list(task.resources.gpu_kinds)},
        "workers": _plain(task.workers),
        "retry": _plain(task.retry) | {"reasons": [str(one) for one in task.retry.reasons]},
        "timeout": task.timeout,
        "max_queue_time": task.max_queue_time,
        "grace": task.grace,
        "priority": task.priority,
        "ports": dict(task.ports),
        "labels": dict(task.labels),
        "interactive": task.interactive,
        "base": dict(details["environment"]),
        "private": list(details["private"]),
        "interpreter": details["interpreter"],
        "uv": details["uv"],
        "git": details["git"],
    }


def _thawed(value: Any) -> Any:
    """Make plain lists and dicts of frozen ones."""
    if isinstance(value, Mapping):
        return {str(name): _thawed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_thawed(one) for one in value]
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
    if task.working_dir.startswith("/") or ".." in task.working_dir.split("/"):
        raise UserError(f"working_dir: {task.working_dir!r} leads out of the code")
    if task.code is not None and not _TREE.fullmatch(task.code.tree):
        raise UserError(f"code: {task.code.tree!r} is not the hash of a git tree")
    if task.environment is not None and not _KEY.fullmatch(task.environment.key):
        raise UserError(f"python: {task.environment.key!r} cannot be the key of an environment")
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
    if task.image and task.environment is None:
        raise UserError(
            "image: not supported by engine local",
            hint="add `python:` to the work file, or use --on CONTEXT for one with containers",
        )
    workers = task.workers
    unsupported = {
        "native": bool(task.native),
        "queue": bool(task.queue),
        "mounts": bool(task.mounts),
        "workers.framework ray": workers.framework == "ray",
        "data mode mount": any(wanted.mode == "mount" for wanted in task.inputs),
        "ports of several workers": bool(task.ports) and workers.count * workers.processes > 1,
    }
    for field, asked in unsupported.items():
        if asked:
            raise UserError(f"{field}: not supported by engine local yet")
    if workers.count < 1 or workers.processes < 1:
        raise UserError("workers: count and processes are at least 1")


def _check_fits(task: Task, facts: Facts) -> None:
    resources, count = task.resources, task.workers.count
    _check_space(resources, facts.details)
    if task.patient:
        return  # the keeper looks again from time to time
    each = f" ({count} workers)" if count > 1 else ""
    if resources.cpu * count > facts.cpu + 1e-9:
        raise _too_much(f"cpu {resources.cpu * count:g}{each}", f"{facts.cpu:g}")
    if resources.memory * count > facts.memory:
        have = f"{facts.memory >> 20} MiB for tasks"
        raise _too_much(f"memory {resources.memory * count >> 20} MiB{each}", have)
    kinds = _of_kind(resources, facts.gpus)
    if resources.gpu * count > len(kinds):
        wanted = f" of kind {' or '.join(resources.gpu_kinds)}" if resources.gpu_kinds else ""
        have = f"{len(kinds)}{wanted}" + (f" (of {len(facts.gpus)})" if wanted else "")
        raise _too_much(f"gpu {resources.gpu * count}{each}", have)


def _check_space(resources: Resources, details: Mapping[str, Any]) -> None:
    """Refuse what the disk or the shared memory has no room for now; neither is enforced later."""
    for name, asked in (("disk", resources.disk), ("shm", resources.shm)):
        if asked > details[name]:
            raise _too_much(f"{name} {asked >> 20} MiB", f"{details[name] >> 20} MiB free")


def _too_much(asked: str, have: str) -> UserError:
    hint = "ask for less, use --on CONTEXT for a larger machine, or --wait until this one has it"
    return UserError(f"resources: {asked} asked for, this machine has {have}", hint=hint)


def _of_kind(resources: Resources, gpus: tuple[str, ...]) -> list[str]:
    kinds = [kind.lower() for kind in resources.gpu_kinds]
    return [gpu for gpu in gpus if not kinds or any(kind in gpu.lower() for kind in kinds)]
