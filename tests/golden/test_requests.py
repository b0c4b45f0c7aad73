"""A work file and facts give exactly this request of the local engine, and nothing is touched.

``MLSTEAD_TEST_WRITE_GOLDEN=1`` writes the files anew; read the difference before you keep it.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlstead.engines.base import Facts
from mlstead.engines.local.prepare import prepare
from mlstead.records.base import Run
from mlstead.spec.load import parse
from mlstead.spec.work import Job
from mlstead.work.base import Backends
from mlstead.work.task import resolve, task_of

FOLDER = Path(__file__).parent / "requests"
FACTS = Facts(
    cpu=8,
    memory=32 << 30,
    gpus=("a100",) * 4,
    details={
        "environment": {"PATH": "/usr/bin", "HOME": "/home/ann"},
        "private": [],
        "disk": 1 << 40,
        "shm": 1 << 34,
        "interpreter": "/opt/python/bin/python",
        "uv": "/opt/python/bin/uv",
        "git": "/usr/bin/git",
    },
)
WORKS = {
    "plain": "command: echo ${{ params.text }}\nparams: {text: it's}\n",
    "group": (
        "command: [python, train.py, '--lr=${{ params.lr }}']\nparams: {lr: 0.1}\n"
        "workers: {count: 4, processes: 2, framework: torch}\n"
        "resources: {cpu: 1, memory: 2Gi, gpu: {count: 1, kind: [a100]}}\n"
        "retries: {max: 2, for: [oom, lost]}\ntimeout: 2h\ngrace: 30s\npriority: high\n"
    ),
    "everything": (
        "command: python main.py\nenv: {A: 'run ${{ run.id }}'}\nworking_dir: src\n"
        "outputs: {model: {kind: model, name: net}, acc: {kind: value}, "
        "logs: {kind: files, ranks: all}}\n"
        "secrets: {TOKEN: hook, HF: {name: hf, file: token}}\nseed: 7\nmax_queue_time: 5m\n"
    ),
}


def request(name: str) -> dict[str, Any]:
    job = parse(f"mlstead: 1\nkind: job\nname: {name}\n{WORKS[name]}")
    assert isinstance(job, Job)
    scope = {"run": {"id": f"{name}-x", "name": name, "project": "p"}, "params": {}}
    pin: dict[str, Any] = {"tree": "0" * 40, "environment": None, "data": {}, "tracked": False}
    run = Run(
        id=f"{name}-x",
        project="p",
        kind="job",
        name=name,
        spec=resolve(job, scope, job.params),
        params=job.params,
        extra={"pin": pin},
    )
    places = SimpleNamespace(
        code=SimpleNamespace(git_dir=Path("/home/ann/code.git")),
        engine=SimpleNamespace(name="local"),
        tracking="",
    )
    task = task_of(cast("Backends", places), run)
    return dict(prepare(task, FACTS).request)


@pytest.mark.parametrize("name", WORKS)
def test_a_work_file_gives_exactly_this_request(name: str) -> None:
    text = json.dumps(request(name), indent=2, sort_keys=True) + "\n"
    file = FOLDER / f"{name}.json"
    if os.environ.get("MLSTEAD_TEST_WRITE_GOLDEN"):
        file.write_text(text)
    assert text == file.read_text()
