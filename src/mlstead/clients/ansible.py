"""Runs our Ansible roles on machines of a site, and tells what each task did."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ansible_runner

from mlstead.errors import UserError

MOST: Final = 20  # lines of a failed task's output that are kept


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine as Ansible reaches it.

    Attributes:
        arguments: what ssh is called with for it, host key checks among them.
        variables: those of its role, secrets in them included.
    """

    name: str
    address: str
    port: int
    user: str
    key: str
    arguments: tuple[str, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: a task began (``host`` empty), or ended on one machine.

    Attributes:
        state: began, ok, changed, skipped, failed or unreachable.
        detail: the last lines of what a failed task wrote.
    """

    state: str
    task: str
    host: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a role ended: the failures, and how many tasks changed something, by machine."""

    failures: tuple[Event, ...]
    changed: Mapping[str, int]
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Play:
    """One role on some machines side by side.

    Attributes:
        role: the role; tasks: its entry.
        machines: where; others: further machines that tasks may be delegated to.
        check: only say what would change.
    """

    role: str
    machines: tuple[Machine, ...]
    others: tuple[Machine, ...] = ()
    tasks: str = "main"
    check: bool = False


def run_play(
    folder: Path,
    play: Play,
    *,
    told: Callable[[Event], None] = lambda event: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run one role on some machines side by side.

    Args:
        folder: our Ansible folder: roles, library, action_plugins.
        play: what and where.
        told: called for every event.
        cancelled: asked often; True ends the run.

    Raises:
        UserError: Ansible is not installed.
    """
    if _program() is None:
        raise UserError("ansible-playbook is not there", hint="pip install 'mlstead[site]'")
    private = Path(tempfile.mkdtemp(prefix="mlstead-apply-", dir=_memory()))
    try:
        _write(private, play)
        listener = _Listener(told)
        done = ansible_runner.interface.run(
            private_data_dir=str(private),
            playbook=str(private / "project" / "play.yml"),
            inventory=str(private / "hosts.json"),
            cmdline="--check" if play.check else None,
            quiet=True,
            event_handler=listener.handle,
            cancel_callback=cancelled,
            envvars=_environment(folder, private),
            settings={"suppress_env_files": True},
            suppress_env_files=True,
        )
        return listener.outcome(str(done.status), int(done.rc or 0))
    finally:
        shutil.rmtree(private, ignore_errors=True)


class _Listener:
    """Turns ansible-runner's events into ours."""

    def __init__(self, told: Callable[[Event], None]) -> None:
        self._told = told
        self._failures: list[Event] = []
        self._changed: dict[str, int] = {}
        self._other: list[str] = []

    def handle(self, event: dict[str, Any]) -> bool:
        """Take one event; False: ansible-runner need not keep it."""
        kind, data = event.get("event", ""), event.get("event_data", {})
        task = str(data.get("task", ""))
        if kind == "playbook_on_task_start":
            self._told(Event("began", task))
        elif kind in (
            "runner_on_ok",
            "runner_on_failed",
            "runner_on_unreachable",
            "runner_on_skipped",
        ):
            self._ended(kind.removeprefix("runner_on_"), task, data)
        elif event.get("stdout", "").strip():
            self._other.append(event["stdout"])
        return False

    def _ended(self, state: str, task: str, data: dict[str, Any]) -> None:
        result, host = data.get("res") or {}, str(data.get("host", ""))
        if state == "failed" and data.get("ignore_errors"):
            state = "ok"
        if state == "ok" and result.get("changed"):
            state = "changed"
            self._changed[host] = self._changed.get(host, 0) + 1
        detail = _detail(result) if state in ("failed", "unreachable") else ""
        event = Event(state, task, host, detail)
        if detail or state in ("failed", "unreachable"):
            self._failures.append(event)
        self._told(event)

    def outcome(self, status: str, code: int) -> Outcome:
        """Say how it ended; a run that failed without a failed task says what Ansible wrote."""
        failures = tuple(self._failures)
        if status == "canceled":
            return Outcome(failures, dict(self._changed), cancelled=True)
        if (code or status != "successful") and not failures:
            words = [line for text in self._other for line in text.splitlines()]
            failures = (Event("failed", "Ansible", "", "\n".join(words[-MOST:]) or status),)
        return Outcome(failures, dict(self._changed))


def _detail(result: Mapping[str, Any]) -> str:
    """Give the last lines that say why a task failed; nothing of a task with secrets."""
    if "censored" in result:
        return "(hidden: this task handles secrets)"
    parts = [str(result.get(name) or "") for name in ("stdout", "stderr", "module_stderr", "msg")]
    for item in result.get("results") or ():
        if isinstance(item, Mapping) and item.get("failed"):
            parts.append(str(item.get("msg", "")))
    lines = [line for part in parts for line in part.splitlines() if line.strip()]
    return "\n".join(lines[-MOST:])


def _program() -> str | None:
    beside = Path(sys.executable).parent / "ansible-playbook"
    return str(beside) if beside.exists() else shutil.which("ansible-playbook")


def _memory() -> str | None:
    """Give a folder in memory that is ours alone, where there is one: secrets pass through it."""
    folder = os.environ.get("XDG_RUNTIME_DIR") or "/dev/shm"
    return folder if os.access(folder, os.W_OK) else None


def _write(private: Path, play: Play) -> None:
    """Write inventory and playbook; JSON is YAML."""
    (private / "project").mkdir()
    hosts = {one.name: _host(one) for one in (*play.machines, *play.others)}
    targets = {"hosts": {one.name: None for one in play.machines}}
    role = {"name": play.role, "tasks_from": play.tasks}
    book = {
        "hosts": "targets",
        "gather_facts": False,
        "become": True,
        "tasks": [{"name": play.role, "ansible.builtin.include_role": role}],
    }
    files = {
        "hosts.json": json.dumps({"all": {"hosts": hosts, "children": {"targets": targets}}}),
        "project/play.yml": json.dumps([book]),
        "ansible.cfg": "[defaults]\n",  # never the user's own
    }
    for name, text in files.items():
        (private / name).write_text(text, encoding="utf-8")


def _host(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ansible_host": machine.address,
        "ansible_port": machine.port,
        "ansible_ssh_common_args": " ".join(_quoted(word) for word in machine.arguments),
        **machine.variables,
    }
    if machine.user:
        found["ansible_user"] = machine.user
    if machine.key:
        found["ansible_ssh_private_key_file"] = machine.key
    return found


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' if " " in word else word


def _environment(folder: Path, private: Path) -> dict[str, str]:
    path = os.environ.get("PATH", "")
    return {
        "PATH": f"{Path(_program() or '').parent}{os.pathsep}{path}",
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
        "ANSIBLE_LIBRARY": str(folder / "library"),
        "ANSIBLE_ACTION_PLUGINS": str(folder / "action_plugins"),
        "ANSIBLE_CONFIG": str(private / "ansible.cfg"),
        "ANSIBLE_HOME": str(private / "home"),
        "ANSIBLE_LOCAL_TEMP": str(private / "tmp"),
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_FORKS": "20",
        "ANSIBLE_HOST_KEY_CHECKING": "1",
        "ANSIBLE_PYTHON_INTERPRETER": "/usr/bin/python3",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INJECT_FACT_VARS": "0",
        "ANSIBLE_SSH_RETRIES": "2",
        "ANSIBLE_TIMEOUT": "15",
        "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "0",
        "LC_ALL": "C.UTF-8",
    }
