"""Messages: sent through Apprise to a server that speaks Slack's incoming webhook."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.local.front_door import Door, wait, work


class Slack:
    """What arrived, and what to answer."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.paths: list[str] = []
        self.answer = 200

    def start(self) -> ThreadingHTTPServer:
        slack = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                slack.texts.append(json.dumps(json.loads(body)))
                slack.paths.append(self.path)
                self.send_response(slack.answer)
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def slack() -> Iterator[tuple[Slack, str]]:
    slack = Slack()
    server = slack.start()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield (
        slack,
        f"slack+http://127.0.0.1:{server.server_port}/services/T00000000/B00000000/X1234567890abcdefghijklm",
    )
    server.shutdown()
    thread.join()
    server.server_close()


JOB = (
    "mlstead: 1\nkind: job\nname: told\ncommand: {}\nresources: {{cpu: 0.5, memory: 128Mi}}\n"
    "notify: [{{to: hook, when: [succeeded, failed]}}]\n"
)


def test_success_and_failure_are_told_once_each(
    door: Door, tmp_path: Path, slack: tuple[Slack, str]
) -> None:
    heard, url = slack
    assert door.process("secret", "set", "hook", stdin=url).code == 0
    door.good("run", work(tmp_path, JOB.format("'true'")))
    wait(lambda: len(heard.texts) == 1, 60)
    assert "succeeded" in heard.texts[0]
    assert door("run", work(tmp_path, JOB.format("exit 3"))).code == 1
    wait(lambda: len(heard.texts) == 2, 60)
    assert "failed" in heard.texts[1]
    assert "exit code 3" in heard.texts[1]
    assert heard.paths[0].startswith("/services/T00000000/")


def test_the_end_is_told_when_the_command_line_was_killed(
    door: Door, tmp_path: Path, slack: tuple[Slack, str]
) -> None:
    heard, url = slack
    door.process("secret", "set", "hook", stdin=url)
    gate = tmp_path / "gate"
    command = f"sh -c 'echo begun; until test -e {gate}; do sleep 0.05; done'"
    caller = door.start("run", work(tmp_path, JOB.format(json.dumps(command))))
    try:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"begun\n"
    finally:
        caller.kill()
        caller.communicate()
    gate.touch()
    wait(lambda: len(heard.texts) == 1, 60)
    assert "succeeded" in heard.texts[0]


def test_a_message_that_is_refused_or_cannot_be_sent_fails_no_run(
    door: Door, tmp_path: Path, slack: tuple[Slack, str]
) -> None:
    heard, url = slack
    heard.answer = 403
    door.process("secret", "set", "hook", stdin=url)
    door.good("run", work(tmp_path, JOB.format("'true'")))
    wait(lambda: len(heard.texts) >= 1, 60)
    door.process("secret", "set", "hook", stdin="slack+http://127.0.0.1:9/services/T0/B0/X")
    door.good("run", work(tmp_path, JOB.format("'true'")))
    assert door.state("told") == "succeeded"


def test_a_message_to_a_secret_that_is_not_there_is_refused_at_submit(
    door: Door, tmp_path: Path
) -> None:
    result = door("run", work(tmp_path, JOB.format("'true'")))
    assert result.code == 2
    assert "hook" in result.err


def test_a_server_that_takes_a_message_and_never_answers_holds_nobody_up(
    door: Door, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"slack+http://127.0.0.1:{port}/services/T00000000/B00000000/X1234567890abcdefghijklm"
        door.process("secret", "set", "hook", stdin=url)
        door.good("run", work(tmp_path / "a", JOB.format("'true'")))
        caller, _ = silent.accept()  # the message has been sent, and is not being answered
        with caller:
            steps = "steps:\n" + "".join(
                f"  s{number}: {{command: 'true', resources: {{cpu: 0.1, memory: 64Mi}}}}\n"
                for number in range(3)
            )
            text = "mlstead: 1\nkind: pipeline\nname: line\n" + steps
            assert door.process("run", work(tmp_path / "b", text)).code == 0
    states = {run["name"]: run["state"] for run in door.good("ps", "--json").json}
    assert states == {"told": "succeeded", "line": "succeeded"}
