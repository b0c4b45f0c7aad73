"""Builds a Python environment once per key; the caller holds the key's lock."""

import shutil
from pathlib import Path
from typing import Any

from mlstead.engines.local.checkout import Run
from mlstead.engines.local.disk import Home, write_over

_READY = "mlstead-ready"


def folder(home: Home, key: str) -> Path:
    """Give the place of an environment."""
    return home.environments / key


def is_ready(home: Home, key: str) -> bool:
    """Say whether an environment is complete."""
    return (folder(home, key) / _READY).exists()


def build(home: Home, request: dict[str, Any], env: dict[str, str], work: Path, run: Run) -> None:
    """Make the environment from its pinned requirements and run the setup command in it.

    It is built where it stays, since scripts name their interpreter by its full path; the last
    step writes a mark, and what has none is thrown away and built again.

    Raises whatever ``run`` raises when a step fails.
    """
    wanted = request["environment"]
    uv = request["uv"]
    place = folder(home, wanted["key"])
    shutil.rmtree(place, ignore_errors=True)
    python = wanted["version"] or request["interpreter"]
    run([uv, "venv", "--quiet", "--no-project", "--python", python, str(place)], env, work)
    interpreter = str(place / "bin" / "python")
    if wanted["requirements"]:
        file = place / "requirements.txt"
        file.write_text(wanted["requirements"], encoding="utf-8")
        command = [uv, "pip", "sync", "--quiet", "--python", interpreter]
        if wanted["hashes"]:
            command.append("--require-hashes")
        # without a network, uv's cache may have it all
        run(["sh", "-c", '"$@" || "$@" --offline', "sh", *command, str(file)], env, work)
    _add_runner(home, place)
    if wanted["setup"]:
        path = f"{place / 'bin'}:{env['PATH']}"
        setup = ["sh", "-ec", wanted["setup"]]
        run(setup, env | {"PATH": path, "VIRTUAL_ENV": str(place)}, work)
    write_over(place / _READY, b"")


def _add_runner(home: Home, place: Path) -> None:
    """Let programs import ``mlstead`` for logging; found after everything the lock installs."""
    for packages in place.glob("lib/python*/site-packages"):
        (packages / "mlstead-runner.pth").write_text(f"{home.runner}\n", encoding="utf-8")
