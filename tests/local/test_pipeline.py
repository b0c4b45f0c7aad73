"""A pipeline through the front door: data between steps, fan-out, conditions, cache, resume."""

import json
import subprocess
import sys
import venv
from pathlib import Path

from tests.local.front_door import Door, wait, work

import mlstead

HEAD = "mlstead: 1\nkind: pipeline\nname: pipe\ndefaults: {resources: {cpu: 0.5, memory: 256Mi}}\n"


def states(door: Door, run: str = "pipe") -> dict[str, str]:
    return {child["key"]: child["state"] for child in door.show(run)["children"]}


def test_outputs_go_from_step_to_step_and_the_best_of_a_fan_out_is_picked(
    door: Door, tmp_path: Path
) -> None:
    text = (
        HEAD
        + """
params: {word: hi}
steps:
  make:
    params: {word: "${{ params.word }}"}
    command: mkdir $MLSTEAD_OUTPUTS/out; echo $MLSTEAD_PARAM_WORD > $MLSTEAD_OUTPUTS/out/a
    outputs: {out: {kind: data, name: words}}
  train:
    foreach: [1, 3, 2]
    params: {i: "${{ item }}"}
    data: {in: {step: make, output: out}}
    command: |
      cat $MLSTEAD_INPUTS/in/a
      echo "{\\"acc\\": $MLSTEAD_PARAM_I}" > $MLSTEAD_OUTPUTS/values.json
      echo model $MLSTEAD_PARAM_I > $MLSTEAD_OUTPUTS/model
    outputs: {model: {kind: data}, acc: {kind: value}}
  best:
    data:
      one: {step: train, output: model, pick: {by: acc, goal: max}}
      all: {step: train, output: model}
    command: cat $MLSTEAD_INPUTS/one; ls $MLSTEAD_INPUTS/all
finally:
  bye: {command: echo bye}
"""
    )
    door.good("run", work(tmp_path, text), "-p", "word=hello")
    assert set(states(door).values()) == {"succeeded"}
    logs = door.good("logs", "pipe").out
    assert logs.count("hello\n") == 3
    assert "model 3\n0\n1\n2\nindex.json\n" in logs
    assert logs.endswith("bye\n")


def test_what_a_step_writes_to_its_gathered_inputs_does_not_reach_the_next_run(
    door: Door, tmp_path: Path
) -> None:
    text = (
        HEAD
        + """
params: {junk: 0}
steps:
  work:
    foreach: [1, 2]
    cache: true
    params: {x: "${{ item }}"}
    command: echo $MLSTEAD_PARAM_X > $MLSTEAD_OUTPUTS/o
    outputs: {o: {kind: data}}
  join:
    data: {all: {step: work, output: o}}
    params: {junk: "${{ params.junk }}"}
    command: |
      cd $MLSTEAD_INPUTS/all; cat 0 1; ls
      test $MLSTEAD_PARAM_JUNK = 0 && exit
      chmod u+w 0; echo JUNK >> 0; rm 1; echo 3 > 1; touch more
"""
    )
    file = work(tmp_path, text)
    for junk in (1, 0):
        # each as a process of its own, which has not looked at the inputs lately
        done = door.process("run", file, "-p", f"junk={junk}")
        assert done.code == 0, done.err
        assert door.good("logs", "pipe").out.endswith("1\n2\n0\n1\nindex.json\n")


def test_conditions_failures_and_finally(door: Door, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
steps:
  look:
    command: 'echo "{\\"n\\": 2}" > $MLSTEAD_OUTPUTS/values.json'
    outputs: {n: {kind: value}}
  more: {command: "true", when: {value: "${{ steps.look.values.n }}", gt: 5}}
  after-more: {command: "true", needs: [more]}
  less: {command: "true", when: {value: "${{ steps.look.values.n }}", le: 5}}
  bad: {command: exit 7}
  never: {command: "true", needs: [bad]}
  cure: {command: "true", needs: [bad], run_if: failed}
finally:
  last: {command: "true"}
"""
    )
    result = door("run", work(tmp_path, text))
    assert result.code == 1
    assert "bad" in result.err
    assert states(door) == {
        "look": "succeeded",
        "more": "skipped",
        "after-more": "skipped",
        "less": "succeeded",
        "bad": "failed",
        "never": "blocked",
        "cure": "succeeded",
        "last": "succeeded",
    }


def test_the_cache_answers_equal_steps_and_only_those(door: Door, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
params: {n: 1}
steps:
  slow:
    cache: true
    params: {n: "${{ params.n }}"}
    command: date +%s%N > $MLSTEAD_OUTPUTS/out
    outputs: {out: {kind: data}}
"""
    )
    file = work(tmp_path, text)

    def outcome(*args: str) -> tuple[str, str]:
        door.good("run", file, *args)
        [child] = door.show("pipe")["children"]
        [link] = [x for x in door.show(child["id"])["links"] if x["direction"] == "output"]
        return child["cached"], link["digest"]

    none, first = outcome()
    again, second = outcome()
    assert (none, again != "", first) == ("", True, second)
    other, third = outcome("-p", "n=2")
    assert other == ""
    assert third != first
    (tmp_path / "new.py").write_text("# changed code\n")
    assert outcome()[0] == ""


def test_a_failed_pipeline_is_resumed_where_it_stopped(door: Door, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    text = (
        HEAD
        + f"""
steps:
  first: {{command: "echo once >> {tmp_path}/count"}}
  second: {{command: "test -e {flag}", needs: [first]}}
  third: {{command: "true", needs: [second]}}
"""
    )
    file = work(tmp_path / "code", text)
    assert door("run", file).code == 1
    run = door.show("pipe")["run"]["id"]
    flag.touch()
    door.good("run", "--resume", run)
    assert (tmp_path / "count").read_text() == "once\n"
    assert door.state(run) == "succeeded"


def test_stop_cancels_what_runs_and_still_runs_finally(door: Door, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
steps:
  long: {command: sleep 100}
  later: {command: "true", needs: [long]}
finally:
  bye: {command: "true"}
"""
    )
    run = door.good("run", "-d", work(tmp_path, text)).out.strip()
    wait(lambda: states(door, run).get("long") == "running", 30, lambda: str(states(door, run)))
    door.good("stop", run, "--wait")
    assert states(door, run) == {"long": "cancelled", "later": "cancelled", "bye": "succeeded"}
    assert door.state(run) == "cancelled"


def test_a_sweep_is_a_step_and_its_best_trial_gives_the_outputs(door: Door, tmp_path: Path) -> None:
    text = (
        HEAD
        + """
steps:
  search:
    kind: sweep
    trial:
      params: {x: 0}
      command: |
        echo "{\\"k\\": \\"score\\", \\"v\\": $MLSTEAD_PARAM_X}" >> $MLSTEAD_METRICS
        echo $MLSTEAD_PARAM_X > $MLSTEAD_OUTPUTS/model
      outputs: {model: {kind: data}}
    search: {points: [{x: 1}, {x: 4}, {x: 2}]}
    metric: {name: score, goal: max}
    parallel: 2
  use:
    data: {m: {step: search, output: model}}
    command: "cat $MLSTEAD_INPUTS/m; echo best ${{ steps.search.values.best }}"
"""
    )
    door.good("run", work(tmp_path, text))
    use = next(child for child in door.show("pipe")["children"] if child["key"] == "use")
    assert door.good("logs", use["id"]).out == "4\nbest 4.0\n"


def test_the_values_and_items_of_a_fan_out_are_inputs_of_who_reads_them(
    door: Door, tmp_path: Path
) -> None:
    text = (
        HEAD
        + """
params: {acc: 1}
steps:
  train:
    foreach: [1, 2]
    params: {acc: "${{ params.acc }}"}
    command: |
      echo same > $MLSTEAD_OUTPUTS/m
      echo "{\\"acc\\": $MLSTEAD_PARAM_ACC}" > $MLSTEAD_OUTPUTS/values.json
    outputs: {m: {kind: data}, acc: {kind: value}}
  join:
    cache: true
    data: {all: {step: train, output: m}}
    command: cp $MLSTEAD_INPUTS/all/index.json $MLSTEAD_OUTPUTS/seen
    outputs: {seen: {kind: data}}
"""
    )
    file = work(tmp_path / "code", text)
    for acc, at in ((1, "a"), (7, "b")):
        door.good("run", file, "-p", f"acc={acc}")
        door.good("get", "pipe", "join/seen", "--to", tmp_path / at)
        seen = json.loads((tmp_path / at / "join" / "seen").read_text())
        assert [part["values"]["acc"] for part in seen] == [acc, acc]
    door.good("run", file, "-p", "acc=7")
    [join] = [child for child in door.show("pipe")["children"] if child["key"] == "join"]
    assert join["cached"]


def test_steps_and_trials_run_in_the_python_they_were_submitted_from(
    door: Door, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    venv.create(other, symlinks=True)
    [site] = (other / "lib").glob("python*/site-packages")
    paths = [folder for folder in sys.path if folder.endswith("site-packages")]
    source = str(Path(mlstead.__file__).parents[1])
    (site / "ours.pth").write_text("\n".join([*paths, source]) + "\n")
    text = (
        HEAD
        + """
steps:
  step:
    cache: true
    command: 'python -c "import sys; print(sys.prefix)" | tee $MLSTEAD_OUTPUTS/where'
    outputs: {where: {kind: data}}
  look:
    kind: sweep
    trial: {command: 'python -c "import sys; print(sys.prefix)"', params: {x: 0}}
    search: {points: [{x: 1}]}
"""
    )
    file = work(tmp_path / "code", text)

    def prefixes() -> set[str]:
        lines = door.good("logs", "pipe").out.splitlines()
        return {line for line in lines if not line.startswith("---")}

    door.good("run", file)
    assert prefixes() == {sys.prefix}
    first = door.show("pipe")
    again = subprocess.run(  # the driver of the first run is still there
        [other / "bin" / "python", "-m", "mlstead", "run", file],
        capture_output=True, text=True, env=door.env, timeout=120, check=False,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert prefixes() == {str(other)}
    second = door.show("pipe")
    keys = [{child["environment"] for child in it["children"]} for it in (first, second)]
    assert all(len(key) == 1 and "" not in key for key in keys)
    assert keys[0] != keys[1]
    assert any(name.startswith("numpy-") for name in first["run"]["extra"]["packages"])
    door.good("run", file)
    [step] = [child for child in door.show("pipe")["children"] if child["key"] == "step"]
    assert step["cached"].startswith(first["run"]["id"])


def test_an_instance_that_waits_for_its_turn_can_be_stopped(door: Door, tmp_path: Path) -> None:
    text = (
        HEAD
        + f"""
steps:
  a:
    foreach: [1, 2, 3]
    max_parallel: 1
    command: echo ${{{{ item }}}} >> {tmp_path}/ran; test -e {tmp_path}/go || sleep 100
"""
    )
    run = door.good("run", "-d", work(tmp_path / "code", text)).out.strip()
    wait(lambda: (tmp_path / "ran").exists(), 30, lambda: str(states(door, run)))
    door.good("stop", f"{run}-a-1", "--wait")
    assert states(door, run)["a[0]"] == "running"
    assert states(door, run)["a[1]"] == "cancelled"
    (tmp_path / "go").touch()
    door.good("stop", f"{run}-a-0", "--wait")
    door.until(run, "failed")
    assert (tmp_path / "ran").read_text() == "1\n3\n"
    assert states(door, run)["a[2]"] == "succeeded"
