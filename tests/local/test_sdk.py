"""The Python SDK: the same words, the same objects, the same door."""

import json
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


def test_a_sweep_a_pipeline_and_a_service_made_in_python_run(home: Path, tmp_path: Path) -> None:
    slim = {"cpu": 0.1, "memory": "64Mi"}
    trial = {"command": "true", "params": {"x": 0}, "code": None, "resources": slim}
    space = {"x": {"int": [0, 9]}}
    sweep = mlstead.Sweep.model_validate(
        {
            "name": "tries",
            "trial": trial,
            "search": {"method": "random", "seed": 1, "space": space},
            "trials": 3,
        }
    )
    step = {"command": "echo 7 > $MLSTEAD_OUTPUTS/n", "code": None, "resources": slim}
    reads = {"command": "cat $MLSTEAD_INPUTS/n", "data": {"n": {"step": "a", "output": "n"}}}
    pipeline = mlstead.Pipeline.model_validate(
        {
            "name": "line",
            "steps": {
                "a": {**step, "outputs": {"n": {"kind": "data"}}},
                "b": {**step, **reads},
            },
        }
    )
    predictor = "def load(folder, params):\n    return 2\n\n\n"
    predictor += "def predict(inputs, model):\n    return {'y': inputs['x'] * model}\n"
    (tmp_path / "predictor.py").write_text(predictor)
    kept = tmp_path / "kept"
    kept.mkdir()
    about = {"runtime": "python", "entry": "predictor:predict"}
    (kept / "mlstead-model.json").write_text(json.dumps(about))
    platform = mlstead.Platform()
    try:
        assert platform.run(sweep, tmp_path).state is State.SUCCEEDED
        ended = platform.run(pipeline, tmp_path)
        assert ended.state is State.SUCCEEDED
        told = b"".join(platform.runs.logs(ended.id))
        assert told.splitlines()[-1] == b"7"
        platform.models.add("twice", kept)
        service = mlstead.Service.model_validate({"name": "twice", "model": "twice@1", "code": "."})
        served = platform.run(service, tmp_path)
        assert served.state is State.SUCCEEDED, served.detail
        assert platform.services.find("twice").id == served.id
        platform.runs.stop("service/twice")
    finally:
        LocalEngine(home).shutdown()
