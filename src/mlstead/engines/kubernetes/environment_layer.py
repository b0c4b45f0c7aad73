"""The Python environment as a layer: wheels for the image's Python, whatever the laptop has."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlstead.clients import uv
from mlstead.engines.base import Environment
from mlstead.engines.kubernetes.layers import Part, Tar
from mlstead.errors import UserError

FOLDER: Final = "/mlstead/environment"
"""Where packages are in an image; PYTHONPATH begins with it."""
PROGRAMS: Final = f"{FOLDER}/bin"
"""Where their programs are; PATH begins with it."""
PLATFORMS: Final = {
    "linux/amd64": "x86_64-unknown-linux-gnu",
    "linux/arm64": "aarch64-unknown-linux-gnu",
}
"""What uv calls the platforms of images."""
_LEFT_OUT: Final = frozenset({".lock", "__pycache__"})
# Both ways in which uv names the interpreter: by its path, and through sh if that path is long.
_INTERPRETER: Final = re.compile(rb"#![^\n]*\n(?:'''exec' [^\n]*\n' '''\n)?")
_ANY_PYTHON: Final = b"#!/usr/bin/env python3\n"
_RECORDED: Final = re.compile(rb"^((?:\.\./)*bin/[^,\n]*),[^,\n]*,\d*$", re.MULTILINE)


def environment_part(
    wanted: Environment, image_python: str, platform: str, making: Path
) -> Part | None:
    """Say which layer holds an environment; None if nothing is to be installed.

    Args:
        wanted: what to install.
        image_python: the version that the base image says it has, "3.11.4"; "" if it says nothing.
        platform: of the image, ``linux/amd64``.
        making: the folder in which packages are put together.

    Raises:
        UserError: it needs another Python than the image has, or a command run in it.
    """
    if wanted.setup:
        raise UserError(
            "python.setup: an image is made without running anything in it",
            hint="put what the command does into an image of your own, and name that as image",
        )
    if not wanted.requirements.strip():
        return None
    python = _version(wanted.version, image_python)
    text = f"{platform} {python} {wanted.hashes} {wanted.requirements}"
    key = f"{wanted.key} {hashlib.sha256(text.encode()).hexdigest()}"
    return Part(
        f"environment for Python {python}", key, _Packages(wanted, python, platform, making)
    )


def _version(wanted: str, image: str) -> str:
    """Choose the version; the image's is the one that will run.

    Raises:
        UserError: they differ, or neither is known.
    """
    if not wanted and not image:
        raise UserError(
            "python.version is missing: the image does not say which Python it has",
            hint="write the version that the image has, or set PYTHON_VERSION in the image",
        )
    short = [".".join(text.split(".")[:2]) for text in (wanted, image) if text]
    if len(set(short)) > 1:
        raise UserError(
            f"python.version: {wanted}, but the image has Python {image}",
            hint="choose an image with that Python, or another version",
        )
    return short[0]


class _Packages:
    """Installs packages into a folder and writes them into a layer."""

    def __init__(self, wanted: Environment, python: str, platform: str, making: Path) -> None:
        self._wanted, self._python, self._platform = wanted, python, platform
        self._making = making

    def __call__(self, tar: Tar) -> None:
        with tempfile.TemporaryDirectory(dir=self._making) as place:
            target = Path(place) / "environment"
            uv.install(
                self._wanted.requirements,
                target,
                self._python,
                platform=PLATFORMS[self._platform],
                hashes=self._wanted.hashes,
            )
            target.mkdir(exist_ok=True)
            tar.folder(FOLDER[1:])
            for path in _files(target):
                _write(tar, path, path.relative_to(target))


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        if entry.name in _LEFT_OUT:
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _write(tar: Tar, path: Path, name: Path) -> None:
    """Write a file; nothing in it may name an interpreter of this machine.

    The files themselves are not touched: they may be links into uv's cache.
    """
    inside = f"{FOLDER[1:]}/{name.as_posix()}"
    if path.is_symlink():
        tar.link(inside, str(path.readlink()))
        return
    about = path.stat()
    program = bool(about.st_mode & 0o100)
    content = None
    if name.parts[0] == "bin" and len(name.parts) > 1:
        content = _without_interpreter(path)
    elif name.name == "RECORD" and name.parent.suffix == ".dist-info":
        content = _RECORDED.sub(rb"\1,,", path.read_bytes())
    if content is not None:
        tar.file(inside, io.BytesIO(content), len(content), program=program)
        return
    with path.open("rb") as file:
        tar.file(inside, file, about.st_size, program=program)


def _without_interpreter(path: Path) -> bytes | None:
    """Give a script that takes the Python on PATH; None if the file is no Python script."""
    with path.open("rb") as file:
        if file.read(2) != b"#!":
            return None
    content = path.read_bytes()
    found = _INTERPRETER.match(content)
    if found is None or not _is_ours(found[0]):
        return None
    return _ANY_PYTHON + content[found.end() :]


def _is_ours(head: bytes) -> bool:
    """Say whether a script's first lines name the interpreter that uv was given."""
    name = os.fsencode(Path(sys.executable).name)
    return b"python" in head.lower() or name in head
