"""MLflow: metrics, parameters, models and lineage are there; a script finds its run open."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.local.front_door import Door, wait, work

LOOK = """
import json, sys, warnings
warnings.simplefilter("ignore")
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
models = client.search_model_versions("")
print(json.dumps({
    "runs": [{"id": r.info.run_id, "name": r.info.run_name, "status": r.info.status,
              "metrics": r.data.metrics, "params": r.data.params, "tags": r.data.tags}
             for r in runs],
    "models": [{"name": m.name, "version": m.version, "run": m.run_id, "tags": m.tags,
                "aliases": list(client.get_registered_model(m.name).aliases)} for m in models],
}))
"""


def mlflow(door: Door) -> Any:
    """Look at the store with MLflow's own client, as ``mlflow ui`` would."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, f"sqlite:///{door.home}/mlflow.db"],
        capture_output=True, text=True, env=door.env, check=False, timeout=200,
    )  # fmt: skip
    return json.loads(done.stdout) if done.returncode == 0 else {"runs": [], "models": []}


def copied(door: Door, run: str) -> bool:
    details = door.show(run)
    return bool(details["run"]["mlflow"])


def test_metrics_params_and_models_are_in_mlflow_in_the_end(door: Door, tmp_path: Path) -> None:
    assert importlib.util.find_spec("mlflow")
    text = (
        "mlstead: 1\nkind: job\nname: net\ncommand: python main.py\nparams: {lr: 0.5}\n"
        "outputs: {model: {kind: model, name: net, alias: [production]}}\n"
    )
    program = (
        "import os, mlstead\n"
        "for step in range(50): mlstead.log(loss=1 / (step + 1), step=step)\n"
        "open(os.environ['MLSTEAD_OUTPUTS'] + '/model', 'w').write('weights')\n"
    )
    door.good("run", work(tmp_path, text, main_py=program))
    found: Any = None

    def there() -> bool:
        nonlocal found
        if not (door.home / "mlflow.db").exists() or not copied(door, "net"):
            return False
        found = mlflow(door)
        return bool(found["models"]) and found["runs"][0]["status"] == "FINISHED"

    wait(there, 180, lambda: str(found))
    [run] = found["runs"]
    assert run["metrics"]["loss"] == 1 / 50
    assert run["params"]["lr"] == "0.5"
    ours = door.show("net")["run"]
    assert run["tags"]["mlstead.run_id"] == ours["id"]
    assert run["id"] == ours["mlflow"]
    [model] = found["models"]
    assert (model["name"], model["run"], model["aliases"]) == ("net", run["id"], ["production"])
    assert model["tags"]["mlstead.code"] == ours["code"]
    door.good("model", "alias", "net", "--drop", "production")
    wait(lambda: mlflow(door)["models"][0]["aliases"] == [], 180, lambda: str(mlflow(door)))


def test_a_script_that_calls_mlflow_itself_finds_its_run_open(door: Door, tmp_path: Path) -> None:
    text = "mlstead: 1\nkind: job\nname: own\ncommand: python main.py\n"
    program = (
        "import warnings\nwarnings.simplefilter('ignore')\n"
        "import mlflow\n"
        "with mlflow.start_run() as run:\n"
        "    print('run', run.info.run_id)\n"
        "    mlflow.log_metric('own_metric', 7.0, step=1)\n"
    )
    door.good("run", work(tmp_path, text, main_py=program))
    ours = door.show("own")["run"]
    assert f"run {ours['mlflow']}" in door.good("logs", "own").out
    wait(lambda: "own_metric" in door.show("own")["metrics"], 120)
    assert door.show("own")["metrics"]["own_metric"]["value"] == 7.0
    assert len(mlflow(door)["runs"]) == 1


def test_a_job_that_logs_nothing_never_pays_for_mlflow(door: Door, tmp_path: Path) -> None:
    door.good("run", work(tmp_path, "mlstead: 1\nkind: job\nname: mute\ncommand: 'true'\n"))
    assert not (door.home / "mlflow.db").exists()
    assert not list((door.home / "local").rglob("track-*"))


def test_a_job_whose_mlflow_does_not_answer_says_that_it_waits(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLSTEAD_TRACKING", "http://127.0.0.1:9")
    text = "mlstead: 1\nkind: job\nname: own\ncommand: python main.py\n"
    file = work(tmp_path, text, main_py="import mlflow\nprint('ran')\n")
    run = door.good("run", "-d", file).out.strip()
    wait(lambda: "MLflow does not answer" in door.show(run)["run"]["detail"], 120)
    assert door.state(run) == "pending"
    door.good("stop", run)
    assert door.until(run, "cancelled")


def test_steps_and_trials_that_call_mlflow_find_their_runs_open(door: Door, tmp_path: Path) -> None:
    text = (
        "mlstead: 1\nkind: pipeline\nname: pipe\nsteps:\n"
        "  one: {command: python main.py}\n"
        "  many:\n    kind: sweep\n    trial: {command: python main.py, params: {x: 0}}\n"
        "    search: {points: [{x: 1}, {x: 2}]}\n"
    )
    program = "import os\nprint('run', os.environ['MLFLOW_RUN_ID'])  # for mlflow\n"
    run = door.good("run", "-d", work(tmp_path, text, main_py=program)).out.strip()
    details = door.until(run, "succeeded", "failed", seconds=150)
    [many] = [child for child in details["children"] if child["key"] == "many"]
    jobs = [child for child in details["children"] if child["key"] == "one"]
    jobs += door.show(many["id"])["children"]
    assert [job["state"] for job in jobs] == ["succeeded"] * 3
    for job in jobs:
        assert door.good("logs", job["id"]).out == f"run {job['mlflow']}\n"
