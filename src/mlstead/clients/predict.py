"""Asks a running service: one request, one answer, one error in plain words.

The standard library does it: one request a process gains nothing from a pool, and httpx alone
takes 0.12 s to import, more than a prediction.
"""

import http.client
import json
import math
import re
import urllib.error
import urllib.request
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

from mlstead.errors import NotFoundError, PlatformError, UnavailableError, UserError

_LARGEST = 1 << 30  # bytes of one answer


def infer(url: str, body: bytes, timeout: float = 60.0) -> dict[str, Any]:
    """Post an inference request of the Open Inference Protocol and give the answer.

    Args:
        url: the address of the inference, ``http://HOST:PORT/v2/models/NAME/infer``.
        body: the request as JSON text.
        timeout: seconds to wait for the connection, and for each part of the answer.

    Raises:
        UserError: the service refused the request (4xx); its own words follow.
        UnavailableError: nobody listens there, the service is too busy (``delay`` says for how
            long), ill, or too slow.
    """
    return _answer(url, body, timeout)


def get_json(url: str, timeout: float = 10.0) -> dict[str, Any]:
    """Read a JSON object, such as a model's metadata; errors as of ``infer``."""
    return _answer(url, None, timeout)


# A service of ours is asked directly: a proxy of the environment knows nothing of it.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _answer(url: str, body: bytes | None, timeout: float) -> dict[str, Any]:
    if not re.match(r"https?://[^/]", url):
        raise UserError(f"{url!r} is no address of a service", hint="http://HOST:PORT/...")
    headers = {"Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, body, headers)
    try:
        with _opener.open(request, timeout=timeout) as reply:
            data = reply.read(_LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(error) from error
    except TimeoutError as error:
        raise _slow(timeout) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _slow(timeout) from error
        raise UnavailableError(
            f"{request.host}: {_reason(error.reason)}", hint="service not running?"
        ) from error
    except (http.client.HTTPException, OSError) as error:
        raise UnavailableError(
            f"{request.host}: the answer broke off", hint="see the log of the service"
        ) from error
    return _object(data, request.host)


def _object(data: bytes, host: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{host}: the answer is no JSON object", hint="is this a service?")
    return found


def _refusal(error: urllib.error.HTTPError) -> PlatformError:
    words = _words(error)
    if error.code == 404:
        return NotFoundError(words)
    if error.code in (429, 503):
        delay = _delay(error.headers.get("Retry-After", ""))
        hint = "try again" if delay is None else f"try again in {delay:g} s"
        return UnavailableError(words, hint=hint, delay=delay)
    if error.code >= 500:
        return UnavailableError(words, hint="see the log of the service")
    return UserError(words)


def _words(error: urllib.error.HTTPError) -> str:
    """Give the server's error as one line: ``{"error": …}``, else the beginning of the body."""
    try:
        text = error.read(1 << 16).decode("utf-8", "replace")
    except (http.client.HTTPException, OSError):
        text = ""
    try:
        said = json.loads(text)
    except ValueError:
        said = text
    if isinstance(said, dict):
        said = said.get("error") or said.get("detail") or said
    line = " ".join(str(said).split())[:500]
    return f"the service answered {error.code}: {line}" if line else f"the service said {error}"


def _delay(text: str) -> float | None:
    """Read Retry-After, seconds or a date (RFC 9110, 10.2.3)."""
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - time()
        except ValueError:
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _reason(reason: object) -> str:
    if isinstance(reason, ConnectionRefusedError):
        return "nobody listens there"
    return reason.strerror or str(reason) if isinstance(reason, OSError) else str(reason)


def _slow(timeout: float) -> PlatformError:
    return UnavailableError(f"the service gave no answer within {timeout:g} s")
