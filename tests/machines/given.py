"""What the tests on hosts are given: a root folder, a bundle, Ansible where it is not installed.

Each is named by a variable of the environment, or lies in ``mlstead-given`` beside the lab's
folder; read when this is imported, before the tests' own environment hides it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.machines.lab.lab import ROOTFS, default_folder

FOLDER = default_folder()


def place(name: str) -> Path:
    """Give where a thing lies that no variable names."""
    return FOLDER.parent / "mlstead-given" / name


def _place(variable: str, name: str) -> Path | None:
    given = os.environ.get(variable)
    found = Path(given) if given else place(name)
    return found if given or found.is_dir() else None


ROOT = _place(ROOTFS, "rootfs")
"""The root folder of hosts; None: it is made by debootstrap."""
BUNDLE = _place("MLSTEAD_LAB_BUNDLE", "bundle")
"""What sites are installed from."""
PYTHON = _place("MLSTEAD_LAB_PYTHON", "python")
"""A folder with ansible and ansible_runner, and their programs in bin; None: they are installed."""


def environment() -> dict[str, str]:
    """Give the variables with which mlstead finds Ansible."""
    if PYTHON is None:
        return {}
    places = (str(PYTHON / "bin"), str(Path(sys.executable).parent), os.environ.get("PATH", ""))
    return {"PYTHONPATH": str(PYTHON), "PATH": os.pathsep.join(places)}


def offer_ansible() -> None:
    """Let this process find Ansible as the environment above says."""
    if PYTHON is not None and str(PYTHON) not in sys.path:
        sys.path.append(str(PYTHON))
        os.environ.update(environment())


def bundle() -> Path:
    """Give the bundle; the tier of machines fails without one, it never skips."""
    if BUNDLE is None:
        raise AssertionError("no bundle: set MLSTEAD_LAB_BUNDLE (docs/decisions/0014-site.md)")
    if shutil.which("ansible-playbook") is None and PYTHON is None:
        raise AssertionError("no Ansible: pip install 'mlstead[site]', or MLSTEAD_LAB_PYTHON")
    return BUNDLE
