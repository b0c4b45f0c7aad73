"""Requests to a service: answers, refusals, silence."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mlstead.clients.predict import get_json, infer
from mlstead.errors import NotFoundError, UnavailableError, UserError

if TYPE_CHECKING:
    from tests.unit.clients.conftest import Loopback

REQUEST = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "UINT8", "data": [7]}]}'


def test_a_request_arrives_whole_and_its_answer_comes_back(loopback: Loopback) -> None:
    loopback.answer = lambda asked: (200, b'{"outputs": [{"data": [3]}]}')
    answer = infer(f"http://{loopback.host}/v2/models/m/infer", REQUEST)
    (asked,) = loopback.asked
    assert (asked.method, asked.path, asked.body) == ("POST", "/v2/models/m/infer", REQUEST)
    assert asked.headers["Content-Type"] == "application/json"
    assert answer == {"outputs": [{"data": [3]}]}


def test_metadata_is_read(loopback: Loopback) -> None:
    loopback.answer = lambda asked: (200, b'{"name": "m"}')
    assert get_json(f"http://{loopback.host}/v2/models/m") == {"name": "m"}
    assert loopback.asked[0].method == "GET"


@pytest.mark.parametrize(
    ("status", "body", "error", "words"),
    [
        (400, b'{"error": "input x:\\n wants [n, 4]"}', UserError, "400: input x: wants [n, 4]"),
        (422, b'{"detail": "no"}', UserError, "422: no"),
        (404, b'{"error": "no model m"}', NotFoundError, "404: no model m"),
        (413, b"<html>too\nlarge</html>", UserError, "413: <html>too large</html>"),
        (400, b"", UserError, "HTTP Error 400"),
        (500, b'{"error": "model crashed"}', UnavailableError, "500: model crashed"),
        (503, b'{"error": "busy"}', UnavailableError, "503: busy"),
        (429, b'{"error": "busy"}', UnavailableError, "429: busy"),
    ],
)
def test_a_refusal_is_one_line_in_the_services_words(
    loopback: Loopback, status: int, body: bytes, error: type[Exception], words: str
) -> None:
    loopback.answer = lambda asked: (status, body)
    with pytest.raises(error) as caught:
        infer(f"http://{loopback.host}/v2/models/m/infer", REQUEST)
    assert type(caught.value) is error
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "delay"),
    [
        ("2", 2.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_busy_service_says_when_to_try_again(
    loopback: Loopback, header: str, delay: float | None
) -> None:
    loopback.answer = lambda asked: (503, b'{"error": "queue full"}')
    loopback.headers["Retry-After"] = header
    with pytest.raises(UnavailableError) as caught:
        infer(f"http://{loopback.host}/", REQUEST)
    assert caught.value.delay == delay


@pytest.mark.parametrize("url", ["file:///etc/hostname", "localhost:80", "", "http://"])
def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(UserError, match="no address of a service"):
        get_json(url)


def test_nobody_there_is_unavailable_with_a_hint(closed_port: int) -> None:
    with pytest.raises(UnavailableError, match="nobody listens") as caught:
        infer(f"http://127.0.0.1:{closed_port}/", REQUEST)
    assert caught.value.hint == "service not running?"


def test_a_service_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(UnavailableError, match="no answer within"):
            get_json(f"http://127.0.0.1:{port}/", timeout=0.05)


@pytest.mark.parametrize("body", [b"hello", b"[1]", b"", b"\xff"])
def test_an_answer_that_is_no_object_is_told(loopback: Loopback, body: bytes) -> None:
    loopback.answer = lambda asked: (200, body)
    with pytest.raises(UserError, match="no JSON object"):
        get_json(f"http://{loopback.host}/")


def test_a_proxy_of_the_environment_is_not_asked(
    loopback: Loopback, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    loopback.answer = lambda asked: (200, b"{}")
    assert get_json(f"http://{loopback.host}/") == {}


def test_a_long_answer_is_read_whole(loopback: Loopback) -> None:
    numbers = list(range(200_000))
    loopback.answer = lambda asked: (200, json.dumps({"data": numbers}).encode())
    assert get_json(f"http://{loopback.host}/")["data"] == numbers


def test_asking_costs_the_standard_library_alone() -> None:
    code = (
        "import sys; import mlstead.clients.predict\n"
        "print([name for name in sys.modules if name in ('httpx', 'requests', 'pydantic')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
