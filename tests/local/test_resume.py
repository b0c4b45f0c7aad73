"""Pipelines taken up again through the front door: what succeeded stays, all the rest runs."""

import json
from pathlib import Path

from tests.local.front_door import Door, wait, work

HEAD = "mlstead: 1\nkind: pipeline\nname: pipe\ndefaults: {resources: {cpu: 0.5, memory: 128Mi}}\n"


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_the_failed_instance_of_a_fan_out_runs_again_at_its_place(
    door: Door, tmp_path: Path
) -> None:
    flag, ran, got = tmp_path / "flag", tmp_path / "ran", tmp_path / "got"
    text = (
        HEAD
        + f"""
steps:
  train:
    foreach: [a, b, c]
    params: {{it: "${{{{ item }}}}"}}
    command: |
      echo $MLSTEAD_PARAM_IT >> {ran}
      test $MLSTEAD_PARAM_IT != b -o -e {flag}
      echo $MLSTEAD_PARAM_IT > $MLSTEAD_OUTPUTS/m
    outputs: {{m: {{kind: data}}}}
  join:
    data: {{all: {{step: train, output: m}}}}
    command: cp -rL $MLSTEAD_INPUTS/all $MLSTEAD_OUTPUTS/all
    outputs: {{all: {{kind: data}}}}
"""
    )
    assert door("run", work(tmp_path / "code", text)).code == 1
    run = door.show("pipe")["run"]["id"]
    assert door("run", "--resume", run).code == 1  # still no flag
    flag.touch()
    door.good("run", "--resume", run)
    assert sorted(lines(ran)) == ["a", "b", "b", "b", "c"]
    door.good("get", run, "join/all", "--to", got)
    index = json.loads((got / "join" / "all" / "index.json").read_text())
    assert [(part["index"], part["item"]) for part in index] == [(0, "a"), (1, "b"), (2, "c")]
    kept = [(got / "join" / "all" / str(at)).read_text() for at in range(3)]
    assert kept == ["a\n", "b\n", "c\n"]


def test_a_sweep_that_was_stopped_as_a_step_goes_on_with_its_trials(
    door: Door, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    text = (
        HEAD
        + f"""
steps:
  look:
    kind: sweep
    trial:
      params: {{x: 0}}
      command: |
        echo $MLSTEAD_PARAM_X >> {ran}
        test $MLSTEAD_PARAM_X -lt 3 -o -e {tmp_path}/go || sleep 100
        echo "{{\\"k\\": \\"m\\", \\"v\\": $MLSTEAD_PARAM_X}}" >> $MLSTEAD_METRICS
    search: {{points: [{{x: 1}}, {{x: 2}}, {{x: 3}}, {{x: 4}}]}}
    metric: {{name: m, goal: max}}
    parallel: 1
"""
    )
    run = door.good("run", "-d", work(tmp_path / "code", text)).out.strip()
    wait(lambda: lines(ran) == ["1", "2", "3"], 60, lambda: str(lines(ran)))
    door.good("stop", run, "--wait")
    [sweep] = door.show(run)["children"]
    assert sweep["state"] == "cancelled"
    (tmp_path / "go").touch()
    door.good("run", "--resume", run)
    assert lines(ran) == ["1", "2", "3", "3", "4"]
    [again] = door.show(run)["children"]
    assert (again["id"], again["state"]) == (sweep["id"], "succeeded")
    assert again["values"]["best"] == 4.0


def test_finally_runs_again_after_a_resume_that_ran_anything(door: Door, tmp_path: Path) -> None:
    flag, ran = tmp_path / "flag", tmp_path / "ran"
    text = (
        HEAD
        + f"""
steps:
  a: {{command: "test -e {flag}; echo a >> {ran}"}}
finally:
  clean: {{command: "echo clean >> {ran}"}}
"""
    )
    assert door("run", work(tmp_path / "code", text)).code == 1
    assert lines(ran) == ["clean"]
    flag.touch()
    door.good("run", "--resume", "pipe")
    assert lines(ran) == ["clean", "a", "clean"]
    door.good("run", "--resume", "pipe")  # nothing is left to run
    assert lines(ran) == ["clean", "a", "clean"]
    assert door.state("pipe") == "succeeded"
