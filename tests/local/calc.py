"""A service that adds a number which its model holds, for tests that go through the front door."""

import json
from pathlib import Path
from typing import Any

from tests.local.front_door import Door, work


def model(door: Door, folder: Path, add: int) -> None:
    """Keep a model whose answer is its input plus ``add``."""
    folder.mkdir(parents=True)
    (folder / "add").write_text(str(add))
    (folder / "mlstead-model.json").write_text(
        json.dumps({"runtime": "python", "entry": "predictor:predict"})
    )
    door.good("model", "add", "plus", folder)


def request(folder: Path, value: int) -> Path:
    body = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [value]}]}
    path = folder / "request.json"
    path.write_text(json.dumps(body))
    return path


def ask(door: Door, path: Path, *args: str) -> int:
    """Ask the service for one number."""
    return int(answer(door, path, *args)["outputs"][0]["data"][0])


def answer(door: Door, path: Path, *args: str) -> Any:
    return door.good("predict", "calc", path, "--json", *args).json


PREDICTOR = """\
def load(folder, params):
    return int((folder / "add").read_text())

def predict(inputs, add):
    return {"y": inputs["x"] + add}
"""


def service(folder: Path, number: int, more: str = "", predictor: str = PREDICTOR) -> Path:
    """Write the work file of the service; ``more`` are further lines of it."""
    text = f"mlstead: 1\nkind: service\nname: calc\ncode: .\nmodel: plus@{number}\n{more}\n"
    return work(folder, text, predictor_py=predictor)
