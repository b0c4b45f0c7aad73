"""What the console script does: give the verb to the warm process, else run it here.

Nothing heavy is loaded before it is clear that nobody else can run the verb.
"""

import importlib
import os
import signal
import socket
import sys
from contextlib import suppress

from mlstead.cli._verbs import COLD, VERBS
from mlstead.cli._warm import wire

PATIENCE = 0.5  # a warm process that does not answer at once is not worth waiting for


def main() -> int:
    """Run one verb; give its exit code."""
    argv = sys.argv[1:]
    if not _may(argv):
        return _here(argv)
    told = wire.circumstances()
    code = _there(told, argv)
    if code is not None:
        return code
    code = _here(argv)
    if code in (0, 1) and argv and argv[0] in VERBS and "--help" not in argv:
        importlib.import_module("mlstead.cli._warm.start").start(told)
    return code


def _may(argv: list[str]) -> bool:
    """Say whether a warm process could run this as well as we."""
    if os.environ.get("MLSTEAD_WARM", "") in ("0", "off", "no") or sys.platform != "linux":
        return False
    if "MLSTEAD_ATTEMPT_FOLDER" in os.environ:
        return False  # part of an attempt: the engine counts and ends its processes
    started_plainly = not (sys.flags.optimize or sys.flags.inspect or sys._xoptions)
    return started_plainly and not sys.warnoptions and not (argv and argv[0] in COLD)


def _here(argv: list[str]) -> int:
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed by the caller
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115
    code: int = importlib.import_module("mlstead.cli.main").main(argv)
    return code


def _there(told: bytes, argv: list[str]) -> int | None:
    """Let the warm process run the verb; None when there is none that can."""
    path = wire.path(told)
    if path is None:
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with connection:
        connection.settimeout(PATIENCE)
        try:
            connection.connect(path)
            if wire.caller(connection) != os.getuid():
                return None
            # what lies unread in a socket keeps our descriptors open: first see that it reads
            if connection.recv(1) != wire.HELLO:
                return None
            wire.send(connection, told, argv)
            answer = connection.recv(16)
            if answer[:1] != wire.READY:
                return None
            verb = os.pidfd_open(int(answer[1:]))
        except OSError:
            return None
        return _accompany(connection, verb)


def _accompany(connection: socket.socket, verb: int) -> int:
    """Pass signals on until the verb has ended, and end as it did."""

    def forward(number: int, _: object) -> None:
        with suppress(ProcessLookupError):  # it is over; the answer is on its way
            signal.pidfd_send_signal(verb, number)

    def pause(_: int, __: object) -> None:
        forward(signal.SIGSTOP, None)
        os.kill(os.getpid(), signal.SIGSTOP)
        forward(signal.SIGCONT, None)

    for one in wire.FORWARDED:
        if signal.getsignal(one) is not signal.SIG_IGN:
            signal.signal(one, forward)
    if signal.getsignal(signal.SIGTSTP) is not signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, pause)
    connection.settimeout(None)
    try:
        connection.sendall(wire.GO)
        answer = connection.recv(16)
    except OSError:
        answer = b""
    if answer[:1] == wire.ENDED:
        return int(answer[1:])
    if answer[:1] == wire.KILLED:
        number = int(answer[1:])
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return 128 + number
    print("error: the warm process has gone in the middle of the call", file=sys.stderr)
    print("hint: what runs goes on; mlstead ps", file=sys.stderr)
    return 3
