"""Host and Origin: a browser's page of another site gets nothing."""

import pytest

from mlstead.serving.guard import Guard
from mlstead.serving.problem import AnswerError


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8123", "localhost:1", "LOCALHOST:1", "[::1]:8123", "[::1]", "box:80"],
)
def test_loopback_and_declared_names_are_let_in(host: str) -> None:
    guard = Guard("127.0.0.1", ["Box"])
    for _ in range(2):
        guard.check(host.encode(), b"")
        guard.check(host.encode(), b"http://" + host.encode())


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8123",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "127.0.0.1:80@evil.example",
        "127.0.0.1:",
        "127.0.0.1:8123:1",
        "[::1",
        "[::1]evil",
        "10.0.0.1",
        "localhost\x00",
        "\xff",
    ],
)
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(AnswerError) as refused:
        Guard("127.0.0.1").check(host.encode("latin-1"), b"")
    assert refused.value.status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "file://", "http://127.0.0.1:8123.e"],
)
def test_other_origins_are_refused(origin: str) -> None:
    with pytest.raises(AnswerError) as refused:
        Guard("127.0.0.1").check(b"127.0.0.1:8123", origin.encode())
    assert refused.value.status == 403


def test_on_all_addresses_an_address_is_let_in_but_no_unknown_name() -> None:
    guard = Guard("0.0.0.0", ["models.lab"])
    guard.check(b"192.168.1.7:80", b"")
    guard.check(b"models.lab", b"")
    with pytest.raises(AnswerError):
        guard.check(b"rebound.example", b"")
