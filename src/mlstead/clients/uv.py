"""Asks uv to pin requirements: what a run is built from is written down before it is sent."""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import uv

from mlstead.errors import NotFoundError, UnavailableError, UserError

PATIENCE = 600.0  # seconds for one resolution; uv itself tries a request four times
_VERSION = re.compile(r"\d+(\.\d+){0,2}")
_INDEX = re.compile(r"\s*(-i|-f|--(extra-)?index-url|--find-links|--(no|only)-binary)[ =]")
_NETWORK = re.compile(
    r"error sending request|network was disabled|status server error|timed out|dns error"
    r"|operation timed|connection (refused|reset|closed)|429 Too Many",
    re.IGNORECASE,
)
_LABEL = re.compile(r"^(error|cause|warning|hint):\s*|^[×╰─▶│├\s]+")


def find_uv() -> Path:
    """Give the program uv: the one installed with mlstead, else the one on PATH.

    Raises:
        NotFoundError: there is none.
    """
    try:
        return Path(uv.find_uv_bin())
    except FileNotFoundError as error:
        if found := shutil.which("uv"):
            return Path(found)
        raise NotFoundError("the program uv is missing", hint="pip install uv") from error


def resolve(requirements: str, python: str, *, folder: Path | None = None) -> str:
    """Pin requirements, and all they need, with hashes.

    The pins hold for every platform (with markers), because the machine that runs the work is
    often not the one that submits it.

    Args:
        requirements: lines as in requirements.txt. Their own index options are kept on top of
            the result; no other index address is written.
        python: a version such as "3.11", the path of an interpreter, or "" for this one's version.
        folder: where relative paths in the requirements start, and uv looks for its settings.

    Raises:
        UserError: nothing fits, or a line cannot be read; in uv's words.
        UnavailableError: the package index does not answer.
    """
    python = python or "{}.{}".format(*sys.version_info)
    which = "--python-version" if _VERSION.fullmatch(python) else "--python"
    given = [
        "pip", "compile", "--generate-hashes", "--no-emit-index-url", "--universal",
        "--no-header", "--no-annotate", which, python, "-",
    ]  # fmt: skip
    pins = _run(given, "the requirements cannot be pinned", text=requirements, folder=folder)
    own = [line.strip() for line in requirements.splitlines() if _INDEX.match(line)]
    return "".join(f"{line}\n" for line in own) + pins


def export(uv_lock: Path) -> str:
    """Give the content of a ``uv.lock`` as pinned requirements with hashes, without the project.

    Raises:
        UserError: the lock, or the pyproject.toml beside it, is missing or cannot be read.
    """
    for file in (uv_lock, uv_lock.parent / "pyproject.toml"):
        if not file.is_file():
            raise UserError(f"{file}: no such file", hint="uv.lock is read with its pyproject.toml")
    given = [
        "export", "--frozen", "--no-emit-project", "--format", "requirements-txt",
        "--no-header", "--no-annotate", "--project", str(uv_lock.parent.resolve()),
    ]  # fmt: skip
    return _run(given, f"{uv_lock} cannot be read", folder=uv_lock.parent)


def install(
    requirements: str, target: Path, python: str, *, platform: str, hashes: bool = False
) -> None:
    """Put pinned requirements into an empty folder, for a machine that may be another one.

    Only wheels are taken, since nothing can be built for another machine. What uv's cache holds
    is not asked for again, so that no network is needed for it: a pin is the same everywhere.

    Args:
        requirements: lines as ``resolve`` gives them.
        target: the folder that PYTHONPATH will name; programs come into its ``bin``.
        python: the version there, such as "3.11".
        platform: as uv calls it, such as ``x86_64-unknown-linux-gnu``.
        hashes: True when each line must have a hash that holds.

    Raises:
        UserError: there is no wheel for that machine, or a hash is wrong; in uv's words.
        UnavailableError: the package index does not answer.
    """
    given = [
        "pip", "sync", "--python", sys.executable, "--target", str(target),
        "--python-version", python, "--python-platform", platform, "--only-binary", ":all:",
        "--allow-empty-requirements", *(["--require-hashes"] if hashes else []), "-",
    ]  # fmt: skip
    what = f"the packages cannot be put together for Python {python} on {platform}"
    try:
        _run([*given, "--offline"], what, text=requirements)
    except (UserError, UnavailableError):
        _run(given, what, text=requirements)


def _run(arguments: Sequence[str], what: str, *, text: str = "", folder: Path | None = None) -> str:
    command = [str(find_uv()), "--quiet", "--color", "never", *arguments]
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            cwd=folder,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{what}: uv took over {PATIENCE:.0f} s") from error
    except OSError as error:
        raise UserError(f"{what}: uv cannot be started: {error.strerror}") from error
    if done.returncode == 0:
        return done.stdout.decode("utf-8", "replace")
    said = done.stderr.decode("utf-8", "replace")
    if _NETWORK.search(said):
        raise UnavailableError(f"{what}: {_short(said)}", hint="does the package index answer?")
    raise UserError(f"{what}: {_short(said)}")


def _short(said: str) -> str:
    """Give uv's last lines as one."""
    lines = [_LABEL.sub("", line.strip()) for line in said.splitlines()]
    kept = [line for line in lines if line and not set(line) <= set("^~ ")]
    return " ".join(kept[-4:])[:600] or "uv gave no reason"
