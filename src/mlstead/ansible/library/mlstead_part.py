#!/usr/bin/python
"""Ansible module: writes the stamp of a part, by which drift is seen later, or takes it away."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: mlstead_part
short_description: Write down what a part of mlstead left on a machine
description:
  - Writes C(/etc/mlstead/parts/NAME.json) with the hash of the part's inputs and what it owns.
  - The files are hashed as they lie on the machine; one that differs from O(checksums) fails.
options:
  name: {description: The part., type: str, required: true}
  state: {description: Whether the part is there., type: str, choices: [present, absent], default: present}
  owned: {description: "With absent: also remove the files and links the stamp names.", type: bool, default: false}
  inputs: {description: Hash of what it was installed from., type: str, default: ""}
  files: {description: Files and links it owns., type: list, elements: path, default: []}
  checksums: {description: Path to the sha256 it must have., type: dict, default: {}}
  lines: {description: Path to lines it must hold., type: dict, default: {}}
  paths: {description: What must exist., type: list, elements: path, default: []}
  units: {description: Units that run and start at boot., type: list, elements: str, default: []}
  packages: {description: Packages it needs., type: list, elements: str, default: []}
  settings: {description: Kernel settings., type: dict, default: {}}
  images: {description: Images the container runtime must have., type: list, elements: str, default: []}
"""
FOLDER = "/etc/mlstead/parts"


def describe(path, found):
    """Say what a file is: its hash, mode and owner, or where a link points."""
    if stat.S_ISLNK(found.st_mode):
        return {"link": os.readlink(path)}
    hashed = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            hashed.update(block)
    return {
        "sha256": hashed.hexdigest(),
        "mode": "%04o" % stat.S_IMODE(found.st_mode),
        "owner": owner(found),
    }


def owner(found):
    """Give ``user:group`` of a file, in the words of ``site/_probe.py``."""
    try:
        return pwd.getpwuid(found.st_uid).pw_name + ":" + grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        return "%d:%d" % (found.st_uid, found.st_gid)


def give_up(module, message):
    """Fail; in check mode only say that something would change: what comes before did nothing."""
    if module.check_mode:
        module.exit_json(changed=True)
    module.fail_json(msg=message)


def versions(module, names):
    """Give the installed version of each package; fail for one that is missing."""
    if not names:
        return {}
    shape = "${Package} ${Version} ${db:Status-Status}\\n"
    code, out, _ = module.run_command(["dpkg-query", "-W", "-f", shape, *names])
    rows = [line.split() for line in out.splitlines()]
    found = {row[0]: row[1] for row in rows if len(row) == 3 and row[2] == "installed"}
    missing = [name for name in names if name not in found]
    if missing:
        give_up(module, "packages missing: " + ", ".join(missing))
    return found


def content(module):
    """Make the stamp from what lies on the machine."""
    asked = module.params
    files = {}
    for path in asked["files"]:
        try:
            files[path] = describe(path, os.lstat(path))
        except OSError as error:
            give_up(module, "%s: %s" % (path, error.strerror))
        wanted = asked["checksums"].get(path)
        if wanted and files[path].get("sha256") != wanted:
            give_up(module, "%s has another checksum than the bundle's manifest" % path)
    stamp = {
        "inputs": asked["inputs"],
        "files": files,
        "lines": asked["lines"],
        "paths": asked["paths"],
        "units": asked["units"],
        "packages": versions(module, asked["packages"]),
        "settings": {name: str(value) for name, value in asked["settings"].items()},
        "images": asked["images"],
    }
    return json.dumps(stamp, indent=1, sort_keys=True) + "\n"


def write(path, text):
    """Write the stamp whole or not at all."""
    os.makedirs(FOLDER, mode=0o755, exist_ok=True)
    descriptor, aside = tempfile.mkstemp(dir=FOLDER, prefix=".stamp-")
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(aside, 0o644)
    os.replace(aside, path)


def remove(path, owned):
    """Take the stamp away, and what it names if that is asked for."""
    for name in owned_files(path) if owned else ():
        if os.path.islink(name) or os.path.isfile(name):
            os.unlink(name)
    os.unlink(path)


def owned_files(path):
    """List the files that a stamp names; none if it is damaged."""
    try:
        with open(path, errors="replace") as file:
            names = list(json.load(file)["files"])
    except (ValueError, LookupError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and os.path.isabs(name)]


def main():
    """Do it."""
    kinds = {
        "list": {"type": "list", "elements": "str", "default": []},
        "dict": {"type": "dict", "default": {}},
    }
    fields = dict.fromkeys(("files", "paths", "units", "packages", "images"), kinds["list"])
    fields.update(dict.fromkeys(("checksums", "lines", "settings"), kinds["dict"]))
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "inputs": {"type": "str", "default": ""},
            "owned": {"type": "bool", "default": False},
            **fields,
        },
        supports_check_mode=True,
    )
    path = os.path.join(FOLDER, os.path.basename(module.params["name"]) + ".json")
    there = os.path.exists(path)
    if module.params["state"] == "absent":
        if there and not module.check_mode:
            remove(path, module.params["owned"])
        module.exit_json(changed=there, path=path)
    text = content(module)
    changed = True
    if there:
        with open(path, errors="replace") as file:
            changed = file.read() != text
    if changed and not module.check_mode:
        write(path, text)
    module.exit_json(changed=changed, path=path)


if __name__ == "__main__":
    main()
