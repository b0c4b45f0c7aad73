"""A work file and facts give exactly these objects of a cluster, and nothing is touched.

``MLSTEAD_TEST_WRITE_GOLDEN=1`` writes the files anew; read the difference before you keep it.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlstead.engines.base import Facts
from mlstead.engines.kubernetes import manifests
from mlstead.engines.kubernetes.prepare import prepare
from mlstead.engines.kubernetes.settings import Settings
from mlstead.records.base import Run
from mlstead.spec.load import parse
from mlstead.spec.work import Job
from mlstead.work.base import Backends
from mlstead.work.task import resolve, task_of

FOLDER = Path(__file__).parent / "requests"
HOME = Path("/home/ann/.local/share/mlstead")
SETTINGS = Settings(
    HOME / "kubernetes" / "lab", HOME, "9bd33c12", namespace="team", image="registry/python:3.11"
)
NODE = {"name": "n1", "cpu": 64.0, "memory": 1 << 40, "gpu": 8, "kind": "a100"}
FACTS = Facts(64, 1 << 40, ("a100",) * 8, {"nodes": [NODE], "namespace": "team"})
WORKS = {
    "plain": "command: echo ${{ params.text }}\nparams: {text: it's}\n",
    "group": (
        "command: [python, train.py, '--lr=${{ params.lr }}']\nparams: {lr: 0.1}\n"
        "workers: {count: 2, processes: 2, framework: torch}\n"
        "resources: {cpu: 1.5, memory: 2Gi, shm: 512Mi, disk: 10Gi, "
        "gpu: {count: 2, kind: [a100]}}\ntimeout: 2h\ngrace: 30s\n"
        "native: {kubernetes: {spec: {template: {spec: {nodeSelector: {rack: r1}}}}}}\n"
    ),
    "everything": (
        "command: python main.py\nenv: {A: 'run ${{ run.id }}'}\nworking_dir: src\n"
        "outputs: {model: {kind: model, name: net}, acc: {kind: value}, "
        "logs: {kind: files, ranks: all}}\nretries: {max: 2, for: [oom, lost]}\n"
        "secrets: {TOKEN: hook, HF: {name: hf, file: token}}\nseed: 7\n"
    ),
}


def objects(name: str) -> dict[str, Any]:
    job = parse(f"mlstead: 1\nkind: job\nname: {name}\n{WORKS[name]}")
    assert isinstance(job, Job)
    scope = {"run": {"id": f"{name}-x", "name": name, "project": "p"}, "params": {}}
    pin: dict[str, Any] = {"tree": "0" * 40, "environment": None, "data": {}, "tracked": False}
    run = Run(
        id=f"{name}-x", project="p", kind="job", name=name,
        spec=resolve(job, scope, job.params), params=job.params, extra={"pin": pin},
    )  # fmt: skip
    places = SimpleNamespace(
        code=SimpleNamespace(git_dir=Path("/home/ann/code.git")),
        engine=SimpleNamespace(name="kubernetes"),
        tracking="",
    )
    request = dict(prepare(task_of(cast("Backends", places), run), FACTS, SETTINGS).request)
    filled = manifests.filled(request["job"], "registry/code@sha256:0", "mlstead-runner-0")
    return {
        "request": {**request, "job": "filled, below"},
        "job": filled,
        "service": manifests.service(f"{name}-x", SETTINGS),
    }


@pytest.mark.parametrize("name", WORKS)
def test_a_work_file_gives_exactly_these_objects(name: str) -> None:
    text = json.dumps(objects(name), indent=2, sort_keys=True) + "\n"
    file = FOLDER / f"kubernetes-{name}.json"
    if os.environ.get("MLSTEAD_TEST_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()
