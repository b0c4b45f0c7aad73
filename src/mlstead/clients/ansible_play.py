"""One role on some machines as Ansible reads it: inventory, playbook and settings, as files."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

INVENTORY: Final = "hosts.yml"
TARGETS: Final = "mlstead_targets"  # no machine can be called so: names have no _
LISTENS: Final = 0.5  # seconds: how often Ansible's runner asks whether to end, at the latest


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


def write(private: Path, play: Play) -> None:
    """Write inventory, playbook and settings; JSON is YAML, but for texts that are no templates."""
    (private / "project").mkdir()
    (private / "env").mkdir()
    hosts = {one.name: _host(one) for one in (*play.machines, *play.others)}
    targets = {"hosts": {one.name: None for one in play.machines}}
    role = {"name": play.role, "tasks_from": play.tasks}
    book = {
        "hosts": TARGETS,
        "gather_facts": False,
        "become": True,
        "tasks": [{"name": play.role, "ansible.builtin.include_role": role}],
    }
    files = {
        INVENTORY: yaml({"all": {"hosts": hosts, "children": {TARGETS: targets}}}),
        "project/play.yml": json.dumps([book]),
        "ansible.cfg": "[defaults]\n",  # never the user's own
        # ansible-runner forgets settings given to it by argument where this file is not there
        "env/settings": json.dumps({"pexpect_timeout": LISTENS}),
    }
    for name, text in files.items():
        (private / name).write_text(text, encoding="utf-8")


def _host(machine: Machine) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ansible_host": machine.address,
        "ansible_port": machine.port,
        "ansible_ssh_common_args": shlex.join(machine.arguments),
        **machine.variables,
    }
    if machine.user:
        found["ansible_user"] = machine.user
    if machine.key:
        found["ansible_ssh_private_key_file"] = machine.key
    return found


def yaml(value: Any) -> str:
    """Write data so that Ansible takes no text in it for a template.

    A text with ``{{``, ``{%`` or ``{#`` gets the tag ``!unsafe``; all else is JSON.
    """
    if isinstance(value, Mapping):
        rows = (f"{_text(str(key))}: {yaml(item)}" for key, item in value.items())
        return "{" + ", ".join(rows) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(yaml, value)) + "]"
    if isinstance(value, str):
        tag = "!unsafe " if any(mark in value for mark in ("{{", "{%", "{#")) else ""
        return tag + _text(value)
    return json.dumps(value)


def _text(value: str) -> str:
    """Write a text in double quotes as both JSON and YAML read it, letters over U+FFFF as YAML."""
    return "".join(
        f"\\U{ord(char):08x}" if ord(char) > 0xFFFF or char == "\x7f" else json.dumps(char)[1:-1]
        for char in value
    ).join(('"', '"'))
