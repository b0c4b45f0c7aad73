"""Copies files of a bundle to a machine: those that differ, checked by their sha256 there."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Asks the machine what is missing, sends it, and has it put in place."""

    TRANSFERS_FILES = True

    def run(self, tmp=None, task_vars=None):
        """Do it; see the module of the same name for the arguments."""
        result = super().run(tmp, task_vars)
        arguments = {"files": [], "links": [], **self._task.args}
        base = arguments.pop("base")
        asked = self._execute_module(
            module_name="mlstead_copy", module_args=arguments, task_vars=task_vars
        )
        if asked.get("failed") or not asked.get("missing") or self._task.check_mode:
            return {**result, **asked}
        sources = {file["dest"]: os.path.join(base, file["src"]) for file in arguments["files"]}
        for dest in asked["missing"]:
            if not os.path.isfile(sources[dest]):
                raise AnsibleActionFail(f"{sources[dest]}: no such file in the bundle")
        staged = {}
        folder = self._make_tmp_path()
        for number, dest in enumerate(asked["missing"]):
            remote = self._connection._shell.join_path(folder, f"file-{number}")
            self._transfer_file(sources[dest], remote)
            staged[dest] = remote
        done = self._execute_module(
            module_name="mlstead_copy",
            module_args={**arguments, "staged": staged},
            task_vars=task_vars,
        )
        self._remove_tmp_path(folder, force=True)
        return {**result, **done}
