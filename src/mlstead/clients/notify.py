"""Sends one message to one address through Apprise: Slack, its look-alikes, and all the others."""

import logging
import re
import threading
import warnings
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import apprise
from apprise.exception import AppriseException
from apprise.plugins.custom_json import NotifyJSON
from apprise.plugins.slack import NotifySlack

from mlstead.errors import PlatformError, UnavailableError, UserError

HINT = "change it with: mlstead secret set NAME"
FORMS = (
    "use https://hooks.slack.com/services/..., slack+https://HOST/services/T/B/X,"
    " https://HOST/hooks/... or any Apprise address"
)
# Apprise answers True or False; the status is only in the warning it logs.
_STATUS = re.compile(r"error=(\d{3})\b")
_TRY_AGAIN = frozenset({408, 425, 429})
_TEXT_ONLY = {"message": "text", "title": "", "version": "", "attachments": "", "type": ""}
_ASSET = apprise.AppriseAsset(
    app_id="mlstead", app_desc="mlstead", async_mode=False, http_redirects=False
)


def send(url: str, title: str, body: str, *, timeout: float = 10) -> None:
    """Send one message, waiting at most ``timeout`` seconds to connect and as long to be answered.

    Args:
        url: the secret address. An Apprise address, a Slack incoming webhook,
            ``slack+http(s)://HOST[:PORT]/.../T/B/X`` for Slack's format at any host, or any other
            ``http(s)://`` address, which gets ``{"text": ...}`` as Mattermost, Rocket.Chat and
            Slack all take it.
        title: one line.
        body: plain text; it never becomes markup or a mention.
        timeout: in seconds.

    Raises:
        UserError: the address is none, or the other side refused the message.
        UnavailableError: nobody answered, or not now. No error holds the address.
    """
    plugin = _plugin(url)
    plugin.socket_connect_timeout = plugin.socket_read_timeout = timeout
    if isinstance(plugin, NotifyJSON) and plugin.payload_extras == _TEXT_ONLY:
        title, body = "", _escaped(f"{title}\n{body}" if title else body)
    elif isinstance(plugin, NotifySlack):
        body = _escaped(body)  # The title it escapes itself.
    heard = _Heard()
    heard.listen()
    try:
        sent = plugin.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT)
    except (TypeError, ValueError, OSError, AppriseException):
        # A plugin's own words may repeat the address, so neither text nor cause goes on.
        sent = False
    finally:
        heard.stop()
    if not sent:
        raise _refusal(heard.status)


def _plugin(url: str) -> Any:
    """Make the Apprise plugin that an address asks for."""
    url = url.strip()
    heard = _Heard()
    heard.listen()
    try:
        plugin = _known(url)
    except (TypeError, ValueError):
        plugin = None
    finally:
        heard.stop()
    if plugin is None:
        raise UserError("the address of this message is none", hint=f"{FORMS}; {HINT}")
    if isinstance(plugin, NotifySlack):
        plugin.include_image = plugin.include_footer = False
        plugin.notify_format = apprise.NotifyFormat.TEXT
    return plugin


def _known(url: str) -> Any:
    scheme = url.partition(":")[0].lower()
    if scheme in ("slack+http", "slack+https"):
        return _slack_at(url)
    if found := NotifySlack.parse_native_url(url):
        return NotifySlack(**found, asset=_ASSET)
    with warnings.catch_warnings():  # It imports all its plugins, 0.7 s, and some warn.
        warnings.simplefilter("ignore")
        plugin = apprise.Apprise.instantiate(url, asset=_ASSET, suppress_exceptions=True)
    if plugin is None and scheme in ("http", "https"):
        return _webhook_at(url)
    return plugin


def _slack_at(url: str) -> NotifySlack:
    """Aim Apprise's Slack plugin at another host; the last three parts of the path are tokens."""
    parts = urlsplit(url)
    path = [part for part in parts.path.split("/") if part]
    if not parts.hostname or len(path) < 3:
        raise ValueError("no host, or fewer than three parts")
    *before, token_a, token_b, token_c = path
    plugin = NotifySlack(token_a=token_a, token_b=token_b, token_c=token_c, asset=_ASSET)
    plugin.webhook_url = "/".join(
        [f"{parts.scheme.removeprefix('slack+')}://{parts.netloc}", *before]
    )
    return plugin


def _webhook_at(url: str) -> NotifyJSON:
    """Post ``{"text": ...}``, what Slack and every server that imitates its webhooks take."""
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return NotifyJSON(
        payload=_TEXT_ONLY,
        params=dict(parse_qsl(parts.query, keep_blank_values=True)),
        host=host,
        port=parts.port,
        fullpath=parts.path,
        user=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        secure=parts.scheme == "https",
        asset=_ASSET,
    )


def _escaped(text: str) -> str:
    """Escape what Slack would read as a link or a mention: https://docs.slack.dev/messaging."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _refusal(status: int | None) -> PlatformError:
    if status is None:
        return UnavailableError("the message did not go out: its server does not answer", hint=HINT)
    if status >= 500 or status in _TRY_AGAIN:
        return UnavailableError(f"the message did not go out: its server answered {status}")
    return UserError(f"the message was refused: its server answered {status}", hint=HINT)


class _Heard(logging.Handler):
    """Takes what Apprise logs in this thread, so that no address reaches a log or the screen."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.status: int | None = None
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and (found := _STATUS.search(record.getMessage())):
            self.status = int(found[1])

    def listen(self) -> None:
        logging.getLogger("apprise").addHandler(self)

    def stop(self) -> None:
        logging.getLogger("apprise").removeHandler(self)


# For ever: debug lines, and some of Apprise's warnings, hold the address.
logging.getLogger("apprise").setLevel(logging.WARNING)
logging.getLogger("apprise").propagate = False
logging.getLogger("apprise").addHandler(logging.NullHandler())
logging.getLogger("urllib3.connectionpool").setLevel(logging.INFO)
