"""Folders of the lab: made and removed so that no link and no mount leads out of them."""

from __future__ import annotations

import re
import stat
import subprocess
from pathlib import Path

from tests.machines.lab.errors import LabError

MARK = ".mlstead-lab"
_MOUNTS = Path("/proc/self/mountinfo")


def claim(folder: Path) -> None:
    """Make a folder the lab's own, or find that it is; a foreign one with content is refused."""
    if not folder.is_absolute() or len(folder.parts) < 3:
        raise LabError(f"{folder} is no place for a lab: an absolute path of two parts or more")
    if re.search(r"[:,\\\s]", str(folder)):
        raise LabError(f"{folder}: a mount's options cannot hold such a name")
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(0o700)  # it holds keys, and hosts' programs with root's rights
    refuse_links(folder)
    if not (folder / MARK).exists():
        if any(folder.iterdir()):
            raise LabError(f"{folder} holds something that is not a lab's")
        (folder / MARK).touch()


def refuse_links(path: Path) -> None:
    """Refuse a path of which any part is a symbolic link."""
    for part in (path, *path.parents):
        if stat.S_ISLNK(part.lstat().st_mode):
            raise LabError(f"{part} is a link: the lab follows none")


def remove(path: Path, lab: Path) -> None:
    """Remove a tree below a lab's folder: never through a link, never across a mount.

    Raises:
        LabError: it does not lie below a folder with the lab's mark, or something is mounted in it.
    """
    if not _there(path):
        return
    if ".." in path.parts or lab not in path.parents or not (lab / MARK).is_file():
        raise LabError(f"{path} is not below the lab {lab}: not removed")
    refuse_links(path)
    if found := mounted_below(path):
        raise LabError(f"{found[0]} is a mount: {path} is not removed")
    command = ["rm", "-rf", "--one-file-system", "--preserve-root=all", "--", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{path} was not removed: {done.stderr.strip()}")


def mounted_below(path: Path) -> list[Path]:
    """List the mounts of this process's namespace at a path and below it."""
    places = [_place(line) for line in _MOUNTS.read_text().splitlines()]
    return [place for place in places if place == path or path in place.parents]


def _place(line: str) -> Path:
    written = line.split()[4]
    return Path(re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), written))


def _there(path: Path) -> bool:
    return path.is_symlink() or path.exists()
