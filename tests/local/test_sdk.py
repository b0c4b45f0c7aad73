"""The Python SDK: the same words, the same objects, the same door."""

from pathlib import Path

import pytest

import mlstead
from mlstead.engines.local.engine import LocalEngine
from mlstead.records.base import State


def test_a_job_made_in_python_runs(home: Path, tmp_path: Path) -> None:
    try:
        platform = mlstead.Platform()
        job = mlstead.Job(name="sdk", command=("sh", "-c", "echo made in Python"), code=None)
        run = platform.run(job, tmp_path)
        assert run.state is State.SUCCEEDED
        assert b"".join(platform.runs.logs(run.id)) == b"made in Python\n"
        assert platform.runs.show(run.id).run.kind == "job"
    finally:
        LocalEngine(home).shutdown()


def test_a_wrong_spec_made_in_python_is_refused(home: Path) -> None:
    sweep = mlstead.Sweep.model_validate(
        {
            "name": "bad",
            "trial": {"command": "true", "params": {"x": 1}},
            "search": {"method": "random", "space": {"y": {"float": [0, 1]}}},
            "trials": 2,
        }
    )
    with pytest.raises(mlstead.PlatformError, match="y"):
        mlstead.Platform().runs.submit(sweep)
