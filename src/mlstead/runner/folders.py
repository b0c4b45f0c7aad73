"""Where a program finds its parameters and inputs, and leaves its outputs.

Outside a run the folders are ``inputs``, ``outputs`` and ``checkpoints`` of the working directory,
and there are no parameters, so that the same script runs by hand.
"""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from mlstead.errors import UserError


def params() -> dict[str, Any]:
    """Give the run's parameters; empty outside a run.

    Raises:
        UserError: the parameters file is not there, or is no JSON object.
    """
    path = os.environ.get("MLSTEAD_PARAMS")
    if not path:
        return {}
    try:
        found = json.loads(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the parameters: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: the parameters are no JSON object")
    return found


def inputs(name: str = "") -> Path:
    """Give the place of an input by its name in the work file: a file or a folder to read.

    Raises:
        UserError: the name climbs out of the folder.
    """
    return _inside("MLSTEAD_INPUTS", "inputs", name)


def outputs(name: str = "") -> Path:
    """Give the folder of an output by its name in the work file; it is made if not there.

    Raises:
        UserError: the name climbs out of the folder.
    """
    return _made(_inside("MLSTEAD_OUTPUTS", "outputs", name))


def checkpoints() -> Path:
    """Give the folder that is kept when the run is tried again; it is made if not there."""
    return _made(_inside("MLSTEAD_CHECKPOINTS", "checkpoints", ""))


def _inside(variable: str, otherwise: str, name: str) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise UserError(f"{name!r} is not a name inside the folder of {otherwise}")
    return Path(os.environ.get(variable) or otherwise) / path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
