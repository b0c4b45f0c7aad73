"""A sweep through the front door: all methods, one object, stop, resume, failures, no metric."""

import csv
from pathlib import Path

import pytest
from tests.local.front_door import Door, work

TRIAL = (
    "import os, mlstead\n"
    "x = float(os.environ['MLSTEAD_PARAM_X'])\n"
    "mlstead.log(loss=(x - 3) ** 2)\n"
    "open(os.environ['MLSTEAD_OUTPUTS'] + '/model', 'w').write(str(x))\n"
)
SWEEP = """mlstead: 1
kind: sweep
name: sweep
trial:
  command: python trial.py
  params: {{x: 0.0}}
  outputs: {{model: {{kind: model, name: net}}}}
  resources: {{cpu: 1, memory: 256Mi}}
search: {search}
metric: {{name: loss, goal: min}}
{rest}
"""


def sweep(folder: Path, search: str, rest: str = "") -> Path:
    return work(folder, SWEEP.format(search=search, rest=rest), trial_py=TRIAL)


@pytest.mark.parametrize(
    ("search", "rest", "count"),
    [
        ("{method: random, space: {x: {float: [-10, 10]}}}", "trials: 4\nparallel: 2", 4),
        ("{method: grid, space: {x: {choice: [1.0, 3.0, 5.0]}}}", "parallel: 2", 3),
        ("{method: tpe, space: {x: {float: [-10, 10]}}}", "trials: 4\nparallel: 2", 4),
        ("{points: [{x: 1.0}, {x: 3.0}]}", "parallel: 2", 2),
    ],
    ids=["random", "grid", "tpe", "points"],
)
def test_every_method_tries_what_it_was_asked_and_keeps_the_best(
    door: Door, tmp_path: Path, search: str, rest: str, count: int
) -> None:
    door.good("run", sweep(tmp_path, search, rest))
    details = door.show("sweep")
    trials = details["children"]
    assert len(trials) == count
    values = {trial["key"]: trial["extra"]["trial"]["value"] for trial in trials}
    best = min(values, key=lambda key: values[key])
    assert details["run"]["values"]["best_trial"] == int(best)
    [of_best] = [
        link for link in door.show(trials[int(best)]["id"])["links"] if link["slot"] == "model"
    ]
    assert of_best["digest"] in {link["digest"] for link in details["links"]}
    door.good("get", "sweep", "trials.csv", "--to", tmp_path / "got")
    text = (tmp_path / "got" / "trials.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert {row["number"]: float(row["value"]) for row in rows} == values


def test_a_trial_without_its_metric_or_with_nan_is_failed(door: Door, tmp_path: Path) -> None:
    program = (
        "import os, mlstead\n"
        "x = float(os.environ['MLSTEAD_PARAM_X'])\n"
        "if x == 1: mlstead.log(loss=float('nan'))\n"
        "if x == 2: mlstead.log(loss=2.0)\n"
        "open(os.environ['MLSTEAD_OUTPUTS'] + '/model', 'w').write('m')\n"
    )
    file = work(
        tmp_path,
        SWEEP.format(search="{points: [{x: 0.0}, {x: 1.0}, {x: 2.0}]}", rest="parallel: 3"),
        trial_py=program,
    )
    door.good("run", file)
    details = door.show("sweep")
    assert [trial["state"] for trial in details["children"]] == ["failed", "failed", "succeeded"]
    assert details["run"]["values"]["best_trial"] == 2
    assert "not logged" in details["children"][0]["detail"]
    assert "nan" in details["children"][1]["detail"]


def test_a_sweep_that_only_fails_gives_up_early(door: Door, tmp_path: Path) -> None:
    file = work(
        tmp_path,
        SWEEP.format(
            search="{method: random, space: {x: {float: [0, 1]}}}", rest="trials: 100\nparallel: 2"
        ),
        trial_py="raise SystemExit(1)\n",
    )
    result = door("run", file)
    assert result.code == 1
    assert len(door.show("sweep")["children"]) < 30


def test_many_jobs_need_no_metric_and_one_failure_fails_the_sweep(
    door: Door, tmp_path: Path
) -> None:
    text = (
        "mlstead: 1\nkind: sweep\nname: many\nparallel: 4\n"
        "trial: {command: 'test $MLSTEAD_PARAM_N != 2', params: {n: 0}, resources: {cpu: 0.5}}\n"
        "search: {points: [{n: 0}, {n: 1}, {n: 2}, {n: 3}]}\n"
    )
    assert door("run", work(tmp_path, text)).code == 1
    states = [trial["state"] for trial in door.show("many")["children"]]
    assert states == ["succeeded", "succeeded", "failed", "succeeded"]


def test_a_sweep_is_stopped_and_resumed_as_one(door: Door, tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(0.3)\n" + TRIAL
    file = work(
        tmp_path,
        SWEEP.format(
            search="{method: random, space: {x: {float: [0, 9]}}}", rest="trials: 6\nparallel: 2"
        ),
        trial_py=slow,
    )
    run = door.good("run", "-d", file).out.strip()
    details = door.until(run, "running")
    door.good("stop", run, "--wait")
    assert door.state(run) == "cancelled"
    done = {t["id"] for t in door.show(run)["children"] if t["state"] == "succeeded"}
    door.good("run", "--resume", run, "--trials", "1")
    details = door.show(run)
    good = {t["id"] for t in details["children"] if t["state"] == "succeeded"}
    assert done <= good
    assert len(good) == 7
    assert details["run"]["state"] == "succeeded"
