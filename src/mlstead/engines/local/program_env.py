"""What the user's program finds: its environment variables, its parameters, its secrets."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlstead.engines.local import worker_env
from mlstead.engines.local.disk import write_over
from mlstead.engines.local.ground import Ground
from mlstead.engines.local.results import rank_folder


def common(ground: Ground) -> dict[str, str]:
    """Make the variables that every process of an attempt gets, and write its parameters.

    The marker of the attempt is among them: by it leftovers are found when all else is gone.
    """
    request = ground.request
    env: dict[str, str] = dict(request["base"])
    env |= {
        "MLSTEAD_TASK_ID": ground.task.name,
        "MLSTEAD_ATTEMPT": str(ground.number),
        "MLSTEAD_PARAMS": str(_write_params(ground)),
        "MLSTEAD_INPUTS": str(ground.inputs),
        "MLSTEAD_CHECKPOINTS": str(ground.task / "checkpoints"),
        "MLSTEAD_STOP": str(ground.task / "stop"),
    }
    for name, value in request["params"].items():
        env[f"MLSTEAD_PARAM_{_variable(name)}"] = as_text(value)
    for name, port in request["ports"].items():
        env[f"MLSTEAD_PORT_{_variable(name)}"] = str(port)
    name, _, value = marker(ground.folder).partition("=")
    env |= request["env"]
    env[name] = value
    # what a Python program printed before it crashed must not be lost in a buffer
    env.setdefault("PYTHONUNBUFFERED", "1")
    return env


def _write_params(ground: Ground) -> Path:
    """Write the parameters as JSON; without any, all tasks share one file that holds ``{}``."""
    if not ground.request["params"]:
        return ground.home.no_params
    data = json.dumps(ground.request["params"], ensure_ascii=False, indent=2)
    path = ground.folder / "params.json"
    path.write_text(data + "\n", encoding="utf-8")
    return path


def marker(folder: Path) -> str:
    """Give the assignment that tells the processes of one attempt from all others."""
    return f"MLSTEAD_ATTEMPT_FOLDER={folder}"


def of_place(ground: Ground, place: worker_env.Place, ports: Sequence[int]) -> dict[str, str]:
    """Make the variables that differ between the processes of a group."""
    return worker_env.variables(ground.request["workers"], place, ports) | {
        "MLSTEAD_OUTPUTS": str(rank_folder(ground.folder, place.rank)),
        "MLSTEAD_METRICS": str(ground.folder / f"metrics-{place.rank}.jsonl"),
    }


def gpus(request: dict[str, Any], granted: Sequence[int], worker: int) -> dict[str, str]:
    """Show a worker the GPUs that are its own, and no other."""
    each = request["resources"]["gpu"]
    mine = granted[worker * each : (worker + 1) * each]
    return {
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, mine)),
    }


def secrets(request: dict[str, Any], values: dict[str, str], folder: Path) -> dict[str, str]:
    """Make the variables for secrets; those wanted as files are written into a 0700 folder."""
    env: dict[str, str] = {}
    for secret in request["secrets"]:
        value = values[secret["name"]]
        if secret["file"]:
            folder.mkdir(mode=0o700, exist_ok=True)
            path = folder / secret["file"]
            write_over(path, value.encode())
            value = str(path)
        if secret["env"]:
            env[secret["env"]] = value
    return env


def as_text(value: object) -> str:
    """Write a parameter for an environment variable: text as it is, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _variable(name: str) -> str:
    return name.upper().replace("-", "_")
