#!/usr/bin/python
"""Ansible module: a unit runs, starts at boot, and has been started since its files were written."""

from __future__ import annotations

import os
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: mlstead_service
short_description: Start a unit, and again when files that it reads are younger than its last start
description:
  - What the task before changed is no reason here, so that a play that was cut short between
    writing a file and the restart makes up for it the next time.
options:
  name: {description: The unit., type: str, required: true}
  files: {description: What it reads and runs., type: list, elements: path, default: []}
"""


def shown(module, name):
    """Give what systemd says of a unit."""
    wanted = ["ActiveState", "UnitFileState", "NeedDaemonReload", "ActiveEnterTimestampMonotonic"]
    words = [word for field in wanted for word in ("-p", field)]
    command = ["systemctl", "show", name, *words]
    code, out, err = module.run_command(command)
    if code:
        module.fail_json(msg="systemctl show %s: %s" % (name, err.strip()))
    return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)


def started(state):
    """Give when the unit was started, in seconds since 1970 by today's clock; 0 if it never was."""
    microseconds = int(state.get("ActiveEnterTimestampMonotonic") or 0)
    return time.time() - time.monotonic() + microseconds / 1e6 if microseconds else 0.0


def do(module, *words):
    """Run systemctl; fail with what it and the unit's journal say."""
    if module.check_mode:
        return
    code, out, err = module.run_command(["systemctl", *words])
    if code:
        _, journal, _ = module.run_command(
            ["journalctl", "-q", "-n", "12", "-o", "cat", "-u", words[-1]]
        )
        module.fail_json(
            msg="systemctl %s: %s\n%s" % (" ".join(words), (err or out).strip(), journal)
        )


def main():
    """Do it."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    name, changed = module.params["name"], False
    state = shown(module, name)
    if state.get("NeedDaemonReload") == "yes" or not state.get("UnitFileState"):
        do(module, "daemon-reload")
        state = shown(module, name)
    if state.get("UnitFileState") not in ("enabled", "static"):
        do(module, "enable", name)
        changed = True
    since = started(state)
    younger = [
        path
        for path in module.params["files"]
        if os.path.exists(path) and os.stat(path).st_mtime > since
    ]
    if state.get("ActiveState") != "active" or younger:
        do(module, "restart", name)
        changed = True
    module.exit_json(changed=changed, younger=younger)


if __name__ == "__main__":
    main()
