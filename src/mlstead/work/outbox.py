"""Sends the messages that runs promised; a message never blocks or fails a run."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

from mlstead import clients, discover
from mlstead.errors import PlatformError, UserError
from mlstead.records.base import Outgoing, PutOutgoing
from mlstead.work.base import Backends

TRIES = 6
FIRST_DELAY = 2.0


def send_due(backends: Backends) -> int:
    """Try every message whose time has come, side by side; give how many were tried."""
    due = backends.store.outgoing(backends.clock())
    if not due:
        return 0
    with ThreadPoolExecutor(max_workers=min(8, len(due))) as pool:
        results = list(pool.map(lambda message: _send(backends, message), due))
    backends.store.commit([PutOutgoing(message) for message in results])
    return len(due)


def _send(backends: Backends, message: Outgoing) -> Outgoing:
    """Try one message; a refusal is final, silence is tried again with growing delays."""
    tries = message.tries + 1
    try:
        address = backends.secrets.get(message.to)
        discover.part(clients, "notify").send(address, "mlstead", message.text)
    except UserError as error:
        return dataclasses.replace(message, tries=tries, state="failed", error=str(error))
    except PlatformError as error:
        over = tries >= TRIES
        return dataclasses.replace(
            message,
            tries=tries,
            state="failed" if over else "waiting",
            error=str(error),
            next_try=backends.clock() + FIRST_DELAY * 2**tries,
        )
    return dataclasses.replace(message, tries=tries, state="sent", error="")
