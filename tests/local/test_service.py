"""A service through the front door: create, predict, several versions, crash, roll over, stop."""

import json
import os
import signal
import threading
import urllib.request
from pathlib import Path

from tests.local.calc import answer, model, request, service
from tests.local.front_door import Door, wait


def test_a_service_answers_rolls_over_keeps_versions_and_stops(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    model(door, tmp_path / "m2", 2)
    ask = request(tmp_path, 10)
    door.good("run", service(tmp_path / "s", 1))
    first = answer(door, ask)
    assert first["outputs"][0]["data"] == [11]
    url = door.show("service/calc")["run"]["extra"]["url"]

    failed: list[object] = []
    stop = threading.Event()

    def load() -> None:
        body = ask.read_bytes()
        while not stop.is_set():
            try:
                urllib.request.urlopen(f"{url}/v2/models/calc/infer", body, 10).read()
            except OSError as error:
                failed.append(error)

    caller = threading.Thread(target=load)
    caller.start()
    door.good("run", service(tmp_path / "s", 2))
    wait(lambda: answer(door, ask)["outputs"][0]["data"] == [12])
    stop.set()
    caller.join()
    assert failed == []
    assert door.show("service/calc")["run"]["extra"]["url"] == url
    assert answer(door, ask, "--version", "v1")["outputs"][0]["data"] == [11]
    figures = door.good("show", "service/calc", "--json").json["figures"]
    assert figures["requests"] >= 2
    door.good("stop", "service/calc")
    assert door("predict", "calc", ask).code == 2


def test_a_server_that_crashes_is_started_again(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    ask = request(tmp_path, 1)
    door.good("run", service(tmp_path / "s", 1))
    run = door.show("service/calc")["run"]
    ready = door.home / "services" / run["project"] / run["id"] / "ready.json"
    pid = json.loads(ready.read_text())["pid"]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        result = door("predict", "calc", ask, "--json")
        return result.code == 0 and json.loads(ready.read_text())["pid"] != pid

    wait(back, 60)


def test_a_model_that_cannot_be_served_fails_the_change_and_keeps_the_old_one(
    door: Door, tmp_path: Path
) -> None:
    model(door, tmp_path / "m1", 1)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.pkl").write_bytes(b"\x80\x04K\x01.")
    door.good("model", "add", "plus", tmp_path / "bad")
    ask = request(tmp_path, 1)
    door.good("run", service(tmp_path / "s", 1))
    result = door("run", service(tmp_path / "s", 2))
    assert result.code == 1
    assert answer(door, ask)["outputs"][0]["data"] == [2]


def test_a_wrong_request_and_an_unknown_service_are_one_line(door: Door, tmp_path: Path) -> None:
    model(door, tmp_path / "m1", 1)
    door.good("run", service(tmp_path / "s", 1))
    bad = tmp_path / "bad.json"
    bad.write_text('{"inputs": [{"name": "x", "shape": [3], "datatype": "INT64", "data": [1]}]}')
    result = door("predict", "calc", bad)
    assert result.code == 2
    assert len(result.err.splitlines()) <= 2
    bad.write_text("{")
    assert door("predict", "calc", bad).code == 2
    assert door("predict", "nobody", bad).code == 2
