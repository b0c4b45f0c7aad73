"""One role on some machines as Ansible reads it: inventory, playbook and settings, as files."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

TARGETS: Final = "mlstead_targets"  # no machine can be called so: names have no _


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
    """Write inventory and playbook; JSON is YAML."""
    (private / "project").mkdir()
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
        "hosts.json": json.dumps({"all": {"hosts": hosts, "children": {TARGETS: targets}}}),
        "project/play.yml": json.dumps([book]),
        "ansible.cfg": "[defaults]\n",  # never the user's own
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
