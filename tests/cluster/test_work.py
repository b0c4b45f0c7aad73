"""Work files on a cluster, by the command line: pipelines, sweeps, workers, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cluster.conftest import Ground
from tests.local.front_door import Door, wait, work

pytestmark = pytest.mark.timeout(900)
SMALL = "resources: {cpu: 0.1, memory: 64Mi}\n"
PIPELINE = """\
mlstead: 1
kind: pipeline
name: line
defaults: {code: null, resources: {cpu: 0.1, memory: 64Mi}}
steps:
  make:
    command: |
      mkdir $MLSTEAD_OUTPUTS/numbers
      for i in 1 2 3; do echo $i > $MLSTEAD_OUTPUTS/numbers/$i; done
    outputs: {numbers: {kind: data, name: numbers}}
    cache: true
  square:
    foreach: [1, 2, 3]
    command: |
      n=$(cat $MLSTEAD_INPUTS/n/${{ item }})
      echo {\\"square\\": $((n * n))} > $MLSTEAD_OUTPUTS/values.json
    data: {n: {step: make, output: numbers}}
    outputs: {square: {kind: value}}
  best:
    command: echo the best of all
    needs: [square]
    when: {value: 1, eq: 1}
finally:
  tidy: {command: echo tidied}
"""
SWEEP = """\
mlstead: 1
kind: sweep
name: search
trial:
  code: null
  params: {x: 0}
  command: |
    x=${{ params.x }}
    echo {\\"k\\": \\"loss\\", \\"v\\": $(( (x - 3) * (x - 3) ))} >> $MLSTEAD_METRICS
  resources: {cpu: 0.1, memory: 64Mi}
search: {method: grid, space: {x: {choice: [1, 2, 3, 4]}}}
metric: {name: loss, goal: min}
parallel: 4
"""


def test_a_pipeline_hands_on_data_and_values_and_answers_from_its_cache(
    door: Door, tmp_path: Path
) -> None:
    file = work(tmp_path, PIPELINE)
    door.good("run", file)
    details = door.show("line")
    states = {child["key"]: child["state"] for child in details["children"]}
    assert set(states.values()) == {"succeeded"}, states
    squares = [
        child["values"]["square"]
        for child in details["children"]
        if child["key"].startswith("square")
    ]
    assert sorted(squares) == [1, 4, 9]
    door.good("run", file)
    again = {child["key"]: child["cached"] for child in door.show("line")["children"]}
    assert again["make"]
    assert door.good("data", "list", "--json").json[0]["name"] == "numbers"


def test_a_sweep_finds_the_best_trial_by_metrics_from_pods(door: Door, tmp_path: Path) -> None:
    door.good("run", work(tmp_path, SWEEP))
    details = door.show("search")
    assert [trial["state"] for trial in details["children"]] == ["succeeded"] * 4
    values = details["run"]["values"]
    assert (values["best"], values["best_params"]["x"]) == (0.0, 3)


def test_workers_meet_by_name_and_exchange_a_message(door: Door, tmp_path: Path) -> None:
    program = """\
import os, socket, time
rank, host = int(os.environ["RANK"]), os.environ["MASTER_ADDR"]
port = int(os.environ["MASTER_PORT"])
if rank == 0:
    with socket.create_server(("", port)) as server:
        other, _ = server.accept()
        print("rank 0 heard", other.recv(100).decode())
else:
    for _ in range(300):
        try:
            with socket.create_connection((host, port), 5) as out:
                out.sendall(b"hello from rank 1")
            break
        except OSError:
            time.sleep(0.2)
"""
    text = (
        "mlstead: 1\nkind: job\nname: pair\ncommand: python meet.py\n"
        "workers: {count: 2, framework: torch}\n" + SMALL
    )
    door.good("run", work(tmp_path, text, meet_py=program))
    assert "rank 0 heard hello from rank 1" in door.good("logs", "pair").out
    assert len(door.show("pair")["run"]["status"]["hosts"]) == 2


def test_what_a_cluster_cannot_do_yet_is_refused_with_its_place(door: Door, tmp_path: Path) -> None:
    text = "mlstead: 1\nkind: job\nname: x\ncommand: 'true'\ncode: null\nqueue: team\n" + SMALL
    result = door("run", work(tmp_path, text))
    assert result.code == 2
    assert "queue: not supported by engine kubernetes yet" in result.err
    text = "mlstead: 1\nkind: job\nname: x\ncommand: 'true'\ncode: null\nresources: {cpu: 999}\n"
    result = door("run", work(tmp_path, text))
    assert result.code == 2
    assert "no node of the cluster is large enough" in result.err


def test_a_plan_prints_the_job_and_sends_nothing(
    door: Door, tmp_path: Path, ground: Ground
) -> None:
    text = "mlstead: 1\nkind: job\nname: planned\ncommand: 'true'\ncode: null\n" + SMALL
    planned = json.dumps(door.good("plan", work(tmp_path, text), "--json").json)
    assert '"kind": "Job"' in planned and "planned-" in planned
    path = f"/apis/batch/v1/namespaces/{ground.namespace}/jobs"
    names = [it["metadata"]["name"] for it in ground.cluster.get(path)["items"]]
    assert not [name for name in names if name.startswith("planned")]


def test_a_namespace_without_room_says_so(door: Door, tmp_path: Path, ground: Ground) -> None:
    space = f"/api/v1/namespaces/{ground.namespace}"
    quota = {"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    ground.cluster.create(f"{space}/resourcequotas", quota)
    try:
        text = "mlstead: 1\nkind: job\nname: full\ncommand: 'true'\ncode: null\n" + SMALL
        run = door.good("run", "-d", work(tmp_path, text)).out.strip()
        said = ""
        for _ in range(60):
            said = door.good("show", run).out
            if "exceeded quota" in said:
                break
        assert "exceeded quota" in said
    finally:
        ground.cluster.delete(f"{space}/resourcequotas/none")
    door.until("full", "succeeded", seconds=240)


def test_an_image_that_is_nowhere_ends_the_run_with_that_reason(door: Door, tmp_path: Path) -> None:
    text = (
        "mlstead: 1\nkind: job\nname: bare\ncommand: 'true'\ncode: null\n"
        "image: 10.77.2.11:5000/no/such:image\n" + SMALL
    )
    result = door("run", work(tmp_path, text))
    assert result.code == 1
    run = door.show("bare")["run"]
    assert (run["state"], run["reason"]) == ("failed", "image")
    assert "no/such" in run["detail"]


def test_an_image_without_python_ends_the_run_with_that_reason(
    door: Door, tmp_path: Path, ground: Ground
) -> None:
    text = (
        "mlstead: 1\nkind: job\nname: snakeless\ncommand: 'true'\ncode: null\n"
        "image: docker.io/local/busybox:1\n" + SMALL
    )
    assert door("run", work(tmp_path, text)).code == 1
    run = door.show("snakeless")["run"]
    assert (run["state"], run["reason"]) == ("failed", "image")
    assert "python3" in run["detail"]
    pods = f"/api/v1/namespaces/{ground.namespace}/pods"
    mine = f"mlstead.io/task={run['id']}"
    wait(lambda: not ground.cluster.get(pods, labelSelector=mine)["items"], 60)
