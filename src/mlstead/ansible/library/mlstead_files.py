#!/usr/bin/python
"""Ansible module: makes folders and writes small files, all of a role's in one round trip."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import tempfile

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: mlstead_files
short_description: Make folders, then write files
description:
  - One task for what would be a row of file, copy and template tasks, each with several round trips.
  - RV(written) names what was changed, so that services are restarted for the files that concern them.
options:
  folders:
    description: "Folders: path; mode, owner and group as below, mode 0755. Those above are made."
    type: list
    elements: dict
    default: []
  files:
    description: "Files: dest, content; mode (0644), owner and group (root). Without content only its rights."
    type: list
    elements: dict
    default: []
"""


def rights(one, mode):
    """Give mode, user and group as numbers."""
    user = pwd.getpwnam(one.get("owner") or "root").pw_uid
    group = grp.getgrnam(one.get("group") or "root").gr_gid
    return int(one.get("mode") or mode, 8), user, group


def has_rights(found, wanted):
    """Say whether a file or folder has its mode, user and group."""
    return (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == wanted


def give_rights(path, wanted):
    """Set user and group, then the mode, which a change of the user may lower."""
    os.chown(path, wanted[1], wanted[2])
    os.chmod(path, wanted[0])


def put_folder(one, check):
    """Make a folder, and those above it; say whether something was to do."""
    path, wanted = one["path"], rights(one, "0755")
    if os.path.isdir(path) and has_rights(os.stat(path), wanted):
        return False
    if not check:
        os.makedirs(path, exist_ok=True)
        give_rights(path, wanted)
    return True


def put_file(one, check):
    """Write a file, whole or not at all; say whether something was to do."""
    path, wanted, content = one["dest"], rights(one, "0644"), one.get("content")
    if check and not os.path.lexists(path):
        return True
    same = content is None or holds(path, content.encode())
    if same and has_rights(os.lstat(path), wanted):
        return False
    if check:
        return True
    if same:
        give_rights(path, wanted)
    else:
        write(path, content.encode(), wanted)
    return True


def holds(path, content):
    """Say whether a plain file has this content."""
    if os.path.islink(path) or not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read() == content


def write(path, content, wanted):
    """Write beside it, with its rights, and put it in place."""
    descriptor, aside = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".mlstead-new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        give_rights(aside, wanted)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def main():
    """Do it."""
    many = {"type": "list", "elements": "dict", "default": []}
    module = AnsibleModule(argument_spec={"folders": many, "files": many}, supports_check_mode=True)
    check, written = module.check_mode, []
    try:
        for one in module.params["folders"]:
            if put_folder(one, check):
                written.append(one["path"])
        for one in module.params["files"]:
            if put_file(one, check):
                written.append(one["dest"])
    except OSError as error:
        module.fail_json(msg="%s: %s" % (error.filename2 or error.filename, error.strerror))
    except KeyError as error:  # no such user; in check mode the task before did not make it
        if check:
            module.exit_json(changed=True, written=written)
        module.fail_json(msg=str(error.args[0]))
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
