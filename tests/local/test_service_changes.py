"""Changes of a service: in order, where two do not fit, with new code, and how they fail."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.local.calc import PREDICTOR, ask, model, request, service
from tests.local.front_door import Door, wait, work

SMALL = "resources: {cpu: 0.1, memory: 64Mi}"
HALF = "resources: {cpu: 1.5, memory: 64Mi}"
BROKEN = """\
import os
def load(folder, params):
    raise RuntimeError("cannot log in with " + os.environ.get("TOKEN", "nothing"))
def predict(inputs, model):
    return {}
"""


@pytest.fixture
def two_cores(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the machine have two cores, whatever it has."""
    monkeypatch.setenv("MLSTEAD_CAPACITY", "cpu=2,memory=8Gi")
    door.env["MLSTEAD_CAPACITY"] = "cpu=2,memory=8Gi"


def listed(door: Door, *args: str) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = door.good("ps", "--json", *args).json
    return runs


def serving(door: Door) -> list[str]:
    return [run["id"] for run in listed(door, "-a") if run["serving"]]


def test_two_changes_at_once_leave_one_generation_and_one_stop_ends_it(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    file = service(tmp_path / "s", 1, SMALL)
    first = door.good("run", "-d", file).out.strip()
    second = door.good("run", "-d", file).out.strip()
    door.until(first, "succeeded")
    door.until(second, "succeeded")
    assert serving(door) == [second]
    assert door.show(first)["run"]["extra"]["port"] == door.show(second)["run"]["extra"]["port"]
    assert ask(door, request(tmp_path, 1)) == 2
    door.good("stop", "service/calc")
    assert serving(door) == []
    assert door("predict", "calc", request(tmp_path, 1)).code == 2


def test_stopping_a_service_ends_the_change_that_is_under_way_too(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    slow = "import time\n" + PREDICTOR.replace("return int", "time.sleep(60)\n    return int")
    run = door.good("run", "-d", service(tmp_path / "s", 1, SMALL, slow)).out.strip()
    door.until(run, "running")
    door.good("stop", "service/calc")
    door.until(run, "cancelled")
    assert serving(door) == []


@pytest.mark.usefixtures("two_cores")
def test_a_change_that_does_not_fit_beside_the_old_one_takes_its_place(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    model(door, tmp_path / "m2", 2)
    door.good("run", service(tmp_path / "s", 1, HALF))
    old = door.show("service/calc")["run"]
    result = door.good("run", service(tmp_path / "s", 2, HALF))
    assert ask(door, request(tmp_path, 1)) == 3
    new = door.show("service/calc")["run"]
    assert new["extra"]["url"] == old["extra"]["url"]
    assert re.search(rf"[\d.]+ s without answers: {old['id']} was ended first", new["detail"])
    assert "cpu 1.5" in result.err
    assert serving(door) == [new["id"]]


@pytest.mark.usefixtures("two_cores")
def test_a_change_that_fails_in_the_place_of_the_old_one_brings_the_old_one_back(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    door.good("run", service(tmp_path / "s", 1, HALF))
    url = door.show("service/calc")["run"]["extra"]["url"]
    result = door("run", service(tmp_path / "b", 1, HALF, BROKEN))
    assert result.code == 1
    back = re.search(r"goes back to what served before \((\S+)\)", result.err)
    assert back is not None, result.err
    door.until(back[1], "succeeded")
    assert ask(door, request(tmp_path, 1)) == 2
    assert door.show("service/calc")["run"]["extra"]["url"] == url


@pytest.mark.usefixtures("two_cores")
def test_a_service_claims_what_it_asks_for_and_says_what_it_waits_for(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    text = (
        "mlstead: 1\nkind: job\nname: long\ncommand: sleep 300\nresources: {cpu: 1, memory: 64Mi}"
    )
    job = door.good("run", "-d", work(tmp_path / "j", text)).out.strip()
    door.until(job, "running")
    run = door.good("run", "-d", service(tmp_path / "s", 1, HALF)).out.strip()
    wait(lambda: "waits for cpu 1.5, memory 64 MiB" in door.show(run)["run"]["detail"])
    door.good("stop", job, "--wait")
    assert not door.until(run, "succeeded")["run"]["detail"]
    other = door.good("run", "-d", work(tmp_path / "j", text)).out.strip()
    status = json.loads(door.good("show", run, "--json").out)["details"]["run"]["state"]
    assert status == "succeeded"
    assert door.state(other) == "queued"
    door.good("stop", "service/calc")
    door.until(other, "running")


def test_versions_kept_from_before_answer_with_the_code_they_were_made_with(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    (tmp_path / "m2").mkdir()
    (tmp_path / "m2" / "weights.json").write_text('{"w": 20}')
    card = {"runtime": "python", "entry": "predictor:predict"}
    (tmp_path / "m2" / "mlstead-model.json").write_text(json.dumps(card))
    door.good("model", "add", "plus", tmp_path / "m2")
    new = (
        "import json\nfrom sign import SIGN\n"
        "def load(folder, params):\n"
        "    return json.loads((folder / 'weights.json').read_text())['w'] * params['by']\n"
        "def predict(inputs, w):\n    return {'y': SIGN * (inputs['x'] + w)}\n"
    )
    old = PREDICTOR.replace("    return {", "    from sign import SIGN\n    return {").replace(
        'inputs["x"] + add', 'SIGN * inputs["x"] + add'
    )
    for folder, sign in (("s1", 1), ("s2", -1)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sign.py").write_text(f"SIGN = {sign}\n")
    door.good("run", service(tmp_path / "s1", 1, SMALL, old))
    door.good("run", service(tmp_path / "s2", 2, SMALL + "\nparams: {by: 2}", new))
    question = request(tmp_path, 10)
    assert ask(door, question) == -50
    assert ask(door, question, "--version", "v1") == 11


def test_a_broken_service_says_why_without_its_secrets(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    secret = "hunter2-very-secret"
    assert door.process("secret", "set", "login", stdin=secret).code == 0
    file = service(tmp_path / "s", 1, SMALL + "\nsecrets: {TOKEN: login}", BROKEN)
    result = door("run", file)
    assert result.code == 1
    assert "RuntimeError: cannot log in with" in result.err
    assert "--- attempt" not in result.err
    assert secret not in result.err
    assert secret not in json.dumps(door.show("calc"))


def test_what_serves_is_listed_and_its_log_found_by_name(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    loud = PREDICTOR.replace("    return int", "    print('HELLO', flush=True)\n    return int")
    door.good("run", service(tmp_path / "s", 1, SMALL, loud))
    run = door.show("service/calc")["run"]["id"]
    assert [it["id"] for it in listed(door, "-r")] == [run]
    nothing = "mlstead: 1\nkind: job\nname: nothing\ncommand: 'true'\n"
    door.good("run", work(tmp_path / "j", nothing))
    assert run in [it["id"] for it in listed(door, "-n", "1")]
    assert door("run", service(tmp_path / "b", 1, SMALL, BROKEN)).code == 1
    for name in ("calc", "service/calc", run):
        assert door.good("logs", name).out == "HELLO\n"
    for name in ("nosuch", "service/nosuch"):
        result = door("logs", name)
        assert (result.code, "mlstead ps lists" in result.err) == (2, True)


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("by_name", [True, False])
def test_a_change_stopped_in_the_place_of_the_old_one_goes_back_unless_the_service_is_to_go(
    door: Door, tmp_path: Path, by_name: bool
) -> None:
    model(door, tmp_path / "m1", 1)
    door.good("run", service(tmp_path / "s", 1, HALF))
    slow = "import time\n" + PREDICTOR.replace("return int", "time.sleep(60)\n    return int")
    run = door.good("run", "-d", service(tmp_path / "b", 1, HALF, slow)).out.strip()
    wait(lambda: "was ended first" in door.show(run)["run"]["detail"])
    door.good("stop", "service/calc" if by_name else run)
    detail = door.until(run, "cancelled")["run"]["detail"]
    back = re.search(r"\((\S+-back)\)", detail)
    assert (back is None) is by_name
    if back is not None:
        door.until(back[1], "succeeded")
        assert serving(door) == [back[1]]
