"""Messages: Slack's incoming webhook spoken by a server on loopback, refusals, silence."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from apprise.plugins.slack import NotifySlack

from mlstead.clients import notify
from mlstead.errors import UnavailableError, UserError

if TYPE_CHECKING:
    from tests.unit.clients.conftest import Asked, Loopback

TOKENS = "T1234ABCD/B1234ABCD/abcdefGHIJKLMNOP1234secr"


def slack(asked: Asked) -> tuple[int, bytes]:
    """Answer as Slack's incoming webhooks do: "ok" to JSON with words in it, else 400."""
    try:
        message: dict[str, Any] = json.loads(asked.body)
    except ValueError:
        return 400, b"invalid_payload"
    if "json" not in asked.headers.get("Content-Type", ""):
        return 400, b"invalid_payload"
    if not (message.get("text") or message.get("attachments")):
        return 400, b"no_text"
    if not asked.path.endswith(TOKENS):
        return 403, b"invalid_token"
    return 200, b"ok"


def test_a_slack_webhook_gets_title_and_body(loopback: Loopback) -> None:
    loopback.answer = slack
    notify.send(f"slack+http://{loopback.host}/services/{TOKENS}", "run train failed", "exit 3")
    (asked,) = loopback.asked
    assert (asked.method, asked.path) == ("POST", f"/services/{TOKENS}")
    (said,) = json.loads(asked.body)["attachments"]
    assert (said["title"], said["text"]) == ("run train failed", "exit 3")


def test_a_plain_address_gets_text(loopback: Loopback) -> None:
    loopback.answer = slack
    url = f"http://{loopback.host}/hooks/{TOKENS}?thread=1%2F2"
    loopback.answer = lambda asked: (200, b'{"fine": true}')
    notify.send(url, "title", "line 1\nline 2")
    (asked,) = loopback.asked
    assert asked.path == f"/hooks/{TOKENS}?thread=1%2F2"
    assert json.loads(asked.body) == {"text": "title\nline 1\nline 2"}


def test_an_apprise_address_is_sent_as_apprise_does(loopback: Loopback) -> None:
    notify.send(f"json://{loopback.host}/path", "t", "b")
    said = json.loads(loopback.asked[0].body)
    assert (said["title"], said["message"]) == ("t", "b")


def test_slacks_own_address_is_known_without_asking_anybody() -> None:
    plugin = notify._plugin(f"https://hooks.slack.com/services/{TOKENS}")
    assert type(plugin) is NotifySlack
    assert plugin.webhook_url == "https://hooks.slack.com/services"


@pytest.mark.parametrize("form", ["slack+http://{}/services/" + TOKENS, "http://{}/x"])
def test_words_never_become_mentions(loopback: Loopback, form: str) -> None:
    notify.send(form.format(loopback.host), "<!channel>", "a < b & <@U1>")
    body = loopback.asked[0].body.decode()
    assert "<" not in body
    assert "&lt;!channel&gt;" in body
    assert "a &lt; b &amp; &lt;@U1&gt;" in body


@pytest.mark.parametrize("form", ["slack+http://{}/services/" + TOKENS, "http://{}/x/topsecret"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, UserError),
        (403, UserError),
        (404, UserError),
        (302, UserError),
        (429, UnavailableError),
        (500, UnavailableError),
        (503, UnavailableError),
    ],
)
def test_a_refusal_is_told_by_status_and_never_by_address(
    loopback: Loopback, form: str, status: int, error: type[Exception]
) -> None:
    loopback.answer = lambda asked: (status, b"no")
    loopback.headers["Location"] = "/elsewhere"
    with pytest.raises(error, match=str(status)) as caught:
        notify.send(form.format(loopback.host), "t", "b")
    assert len(loopback.asked) == 1
    assert "secr" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_nobody_there_is_unavailable(closed_port: int) -> None:
    with pytest.raises(UnavailableError) as caught:
        notify.send(f"slack+http://127.0.0.1:{closed_port}/services/{TOKENS}", "t", "b")
    assert TOKENS not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    "url", ["", "hello", "slack+http://", "slack+http://h/a/b", "nosuch://x/y", "http://", "\0"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UserError, match="address"):
        notify.send(url, "t", "b")


def test_the_address_reaches_no_log(
    loopback: Loopback, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    loopback.answer = lambda asked: (404, b"no")
    for url in (f"slack+http://{loopback.host}/services/{TOKENS}", "slack+http://h/secr/x/"):
        with pytest.raises(UserError):
            notify.send(url, "t", "b")
    out, err = capfd.readouterr()
    assert "secr" not in out + err + caplog.text
