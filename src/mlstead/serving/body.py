"""Reads a request's body within the limit, and refuses what is longer without holding it."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from mlstead.serving.problem import AnswerError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

READ_SECONDS = 30.0
"""How long a client may take to send one body."""
_PATIENCE = 8


async def read_body(receive: Receive, stated: bytes, expects: bool, limit: int) -> bytes:
    """Read one body of at most ``limit`` bytes.

    Args:
        receive: the ASGI channel.
        stated: the Content-Length header, empty if there is none.
        expects: the client waits for leave (100 Continue) before it sends.
        limit: bytes.

    Raises:
        AnswerError: 400, the length is not a number; 408, too slow; 413, too long.
    """
    if stated:
        if not stated.isdigit():
            raise AnswerError(400, "Content-Length is not a number")
        if int(stated) > limit:
            # Most clients read an answer only after all is sent: swallow a moderate excess.
            if not expects and int(stated) <= _PATIENCE * limit:
                await _swallow(receive, _PATIENCE * limit)
            raise _too_long(limit)
    message = await _next(receive)
    if not message.get("more_body"):
        return _part(message, limit, 0)
    chunks = [_part(message, limit, 0)]
    held = len(chunks[0])
    try:
        async with asyncio.timeout(READ_SECONDS):
            while message.get("more_body"):
                message = await _next(receive)
                chunks.append(_part(message, limit, held))
                held += len(chunks[-1])
    except TimeoutError as error:
        raise AnswerError(
            408, f"the body did not arrive within {READ_SECONDS:.0f} seconds"
        ) from error
    except AnswerError as problem:
        if problem.status == 413:
            chunks.clear()
            await _swallow(receive, _PATIENCE * limit)
        raise
    return b"".join(chunks)


async def _next(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise AnswerError(400, "the client went away")
    return message


def _part(message: MutableMapping[str, Any], limit: int, held: int) -> bytes:
    part: bytes = message.get("body", b"")
    if held + len(part) > limit:
        raise _too_long(limit)
    return part


def _too_long(limit: int) -> AnswerError:
    return AnswerError(413, f"the body is longer than {limit} bytes")


async def _swallow(receive: Receive, most: int) -> None:
    with suppress(TimeoutError, AnswerError):
        async with asyncio.timeout(READ_SECONDS):
            seen, more = 0, True
            while more and seen <= most:
                message = await _next(receive)
                seen += len(message.get("body", b""))
                more = bool(message.get("more_body"))
