"""The server as a process: ready file, port, drain, take-over, exit codes."""

import http.client
import json
import signal
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

import pytest

INFER = "/v2/models/fashion/infer"
ONE = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}
PATIENCE = 60.0
GATE = """
import time
from pathlib import Path
here = Path(__file__).parent
def predict(inputs):
    (here / "started").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
    return inputs
"""


def post(port: int, body: Any = ONE, path: str = INFER) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body if isinstance(body, bytes) else json.dumps(body))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def wait_until(true: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_server_says_where_it_is_answers_and_stops_with_exit_code_0(
    start: Any, folders: Any
) -> None:
    server = start({"v1": folders.scores([[2.0]])})
    told = server.ready()
    assert told["url"] == f"http://127.0.0.1:{told['port']}"
    assert told["versions"] == ["v1"]
    status, said = post(told["port"])
    assert (status, said["outputs"][0]["data"]) == (200, [2.0])
    assert not list(server.ready_file.parent.glob(".ready*"))
    server.popen.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    assert server.log.read_text() == ""


def test_only_loopback_is_bound(start: Any, folders: Any) -> None:
    port = start({"v1": folders.scores([[2.0]])}).ready()["port"]
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()
    listening = {line.split()[1] for line in lines if line.split()[3] == "0A"}
    assert {one for one in listening if one.endswith(wanted)} == {f"0100007F{wanted}"}


def test_raw_requests_with_strange_paths_are_refused(start: Any, folders: Any) -> None:
    port = start({"v1": folders.scores([[2.0]])}).ready()["port"]
    for path in (b"/../../etc/passwd", b"/v2/models/\xff", b"/v2\x00", b"//proc/self/root", b"x y"):
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw:
            raw.sendall(
                b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
            )
            answer = b"".join(iter(lambda: raw.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 4"), (path, answer)
        assert b"root:" not in answer


def test_a_long_body_is_answered_413_and_the_server_goes_on(start: Any, folders: Any) -> None:
    port = start({"v1": folders.scores([[2.0]])}, limits={"body": 100_000}).ready()["port"]
    status, said = post(port, b"x" * 500_000)
    assert status == 413
    assert list(said) == ["error"]
    assert post(port)[0] == 200


def test_a_request_in_work_is_finished_before_the_server_stops(start: Any, folders: Any) -> None:
    code = folders.code(GATE, "gate")
    server = start({"v1": folders.card(runtime="python", entry="gate:predict")}, code=str(code))
    port = server.ready()["port"]
    answers: list[tuple[int, Any]] = []
    client = threading.Thread(target=lambda: answers.append(post(port)))
    client.start()
    wait_until((code / "started").exists)
    server.popen.send_signal(signal.SIGTERM)
    wait_until(lambda: not listens(port))
    assert server.popen.poll() is None
    (code / "go").touch()
    client.join(PATIENCE)
    assert [status for status, _ in answers] == [200]
    assert server.wait() == 0


def test_a_model_that_never_answers_does_not_keep_the_server_for_ever(
    start: Any, folders: Any
) -> None:
    code = folders.code(GATE, "gate")
    server = start(
        {"v1": folders.card(runtime="python", entry="gate:predict")},
        code=str(code),
        limits={"drain": 1},
    )
    with socket.create_connection(("127.0.0.1", server.ready()["port"]), PATIENCE) as raw:
        text = json.dumps(ONE)
        raw.sendall(
            f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
        )
        wait_until((code / "started").exists)
        server.popen.send_signal(signal.SIGTERM)
        assert server.wait() == 1
    assert "stopped while v1 had a request" in server.log.read_text()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_new_generation_takes_over_the_port_and_no_request_is_lost(
    start: Any, folders: Any
) -> None:
    old = start({"v1": folders.scores([[1.0]])})
    port = old.ready()["port"]
    answers: list[tuple[int, str]] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                status, said = post(port)
                answers.append((status, said["model_version"]))
            except Exception as error:
                failures.append(error)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    wait_until(lambda: len(answers) > 20)
    new = start({"v2": folders.scores([[2.0]])}, port=port)
    new.ready()
    old.popen.send_signal(signal.SIGTERM)
    code = old.wait()
    seen = len(answers)
    wait_until(lambda: len(answers) > seen + 20)
    stop.set()
    for client in clients:
        client.join(PATIENCE)
    assert code == 0
    assert not failures
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers[seen + 8 :]} == {"v2"}


def test_a_broken_new_generation_ends_and_the_old_one_goes_on(start: Any, folders: Any) -> None:
    port = start({"v1": folders.scores([[1.0]])}).ready()["port"]
    broken = folders.new()
    (broken / "model.onnx").write_bytes(b"not a model")
    new = start({"v2": broken}, port=port)
    assert new.wait() == 2
    said = new.log.read_text()
    assert said.startswith("error: version v2: model.onnx is not a model")
    assert said.count("\n") == 1
    assert post(port)[1]["model_version"] == "v1"


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_of_something_else_is_refused(start: Any, folders: Any, reuse: bool) -> None:
    if reuse:  # another service of ours would share the port without a word
        port = start({"v1": folders.scores([[1.0]])}, name="other").ready()["port"]
        new = start({"v1": folders.scores([[1.0]])}, port=port)
        assert new.wait() == 2
        assert "taken by something else" in new.log.read_text()
        return
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        new = start({"v1": folders.scores([[1.0]])}, port=port)
        assert new.wait() == 3
    assert "cannot listen on 127.0.0.1" in new.log.read_text()


def test_a_wrong_configuration_is_one_line_and_exit_code_2(start: Any, tmp_path: Path) -> None:
    server = start({"v1": tmp_path / "gone"})
    assert server.wait() == 2
    assert server.log.read_text().count("\n") == 1
    assert not server.ready_file.exists()


def test_the_ready_file_is_a_whole_file_of_its_own(start: Any, folders: Any) -> None:
    server = start({"v1": folders.scores([[1.0]])})
    told = server.ready()
    assert sorted(told) == ["pid", "port", "url", "versions"]
    assert stat.S_ISREG(server.ready_file.lstat().st_mode)
