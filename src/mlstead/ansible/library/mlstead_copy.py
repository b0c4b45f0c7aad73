#!/usr/bin/python
"""Ansible module: puts files of a bundle in place, once their sha256 is right."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: mlstead_copy
short_description: Copy files of a bundle, their folders made, and make links
options:
  base: {description: The bundle's folder on the controller., type: path}
  files: {description: "Files: src below the base, dest, sha256, mode.", type: list, elements: dict, default: []}
  links: {description: "Links: dest, to.", type: list, elements: dict, default: []}
  staged: {description: Used by the action plugin; dest to a temporary file., type: dict, default: {}}
"""


def hashed(path):
    """Give the sha256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def is_right(file):
    """Say whether a file lies as it should."""
    try:
        found = os.lstat(file["dest"])
    except OSError:
        return False
    if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) != int(file["mode"], 8):
        return False
    return found.st_uid == 0 and hashed(file["dest"]) == file["sha256"]


def is_linked(link):
    """Say whether a link points where it should."""
    return os.path.islink(link["dest"]) and os.readlink(link["dest"]) == link["to"]


def make_folder(path):
    """Make a folder that everybody may read, and those above it."""
    if not os.path.isdir(path):
        make_folder(os.path.dirname(path))
        os.mkdir(path)
        os.chmod(path, 0o755)


def install(module, file, source):
    """Move a staged file in place, whole or not at all; a running program keeps the old one."""
    if hashed(source) != file["sha256"]:
        module.fail_json(msg=file["src"] + ": not what the bundle's manifest says; it was changed")
    make_folder(os.path.dirname(file["dest"]))
    aside = file["dest"] + ".mlstead-new"
    shutil.move(source, aside)
    os.chown(aside, 0, 0)
    os.chmod(aside, int(file["mode"], 8))
    descriptor = os.open(aside, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    os.replace(aside, file["dest"])


def make_link(link):
    """Make a link, whole or not at all."""
    aside = link["dest"] + ".mlstead-new"
    if os.path.lexists(aside):
        os.unlink(aside)
    os.symlink(link["to"], aside)
    os.replace(aside, link["dest"])


def main():
    """Do it."""
    many = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(
        argument_spec={
            "base": {"type": "path"},
            "files": many,
            "links": many,
            "staged": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    asked = module.params
    missing = [file for file in asked["files"] if not is_right(file)]
    unlinked = [link for link in asked["links"] if not is_linked(link)]
    changed = bool(missing or unlinked)
    left = [file["dest"] for file in missing if file["dest"] not in asked["staged"]]
    if module.check_mode:
        module.exit_json(changed=changed, missing=left)
    try:
        for file in missing:
            if file["dest"] in asked["staged"]:
                install(module, file, asked["staged"][file["dest"]])
        for link in unlinked if not left else ():
            make_link(link)
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename2 or error.filename, error.strerror))
    module.exit_json(changed=changed, missing=left)


if __name__ == "__main__":
    main()
