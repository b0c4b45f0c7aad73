"""One ssh process that runs one command on a host, and what became of the command."""

import contextlib
import os
import re
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mlstead.clients import ssh_said
from mlstead.clients.ssh_target import Target, environment
from mlstead.errors import UnavailableError, UserError

PATIENCE = 5.0  # seconds for a session to end by itself once its input is closed
_FAILED = 255  # ssh's own exit code when it fails; a command can end with it, too
_LINE = 64 << 10  # bytes read in search of the first line
# Said on standard error there, before and after the command: so its words are told from those of
# ssh, banners and login scripts, and its exit code 255 from a connection that was lost.
_BEGAN = "mlstead: the command begins"
_ENDED = "mlstead: the command ended with "
_END = re.compile(rf"\n?{_ENDED}(\d+)\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command on a host ended.

    Attributes:
        code: its exit code; over 128 if a signal ended it.
        out: what it printed; not shown by ``repr``, it may hold a secret.
        err: what it said on standard error.
    """

    code: int
    out: bytes = field(repr=False)
    err: str = field(repr=False)


class Session:
    """A command that runs on a host for as long as its ssh lives.

    ssh has no terminal: it can ask nobody, and Ctrl-C reaches us alone. What it says goes to
    files, because a shared connection that it leaves behind would keep a pipe open.
    """

    def __init__(self, target: Target, options: Sequence[str], command: str, folder: Path) -> None:
        """Start ssh.

        Args:
            target: the host.
            options: those of ssh.
            command: for ``/bin/sh`` there.
            folder: where a file of ssh's own words lies meanwhile.

        Raises:
            UserError: ssh is not installed, or does not take the command.
        """
        self._target = target
        handle, name = tempfile.mkstemp(dir=folder, suffix=".log")
        os.close(handle)
        self._log = Path(name)
        self._err = tempfile.TemporaryFile()  # noqa: SIM115 closed by close
        argv = ["ssh", "-T", "-E", name, "-o", "LogLevel=INFO", *options]
        try:
            self._process = subprocess.Popen(
                [*argv, "--", target.address, _framed(command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._err,
                env=environment(),
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._clear()
            if isinstance(error, FileNotFoundError):
                raise UserError("ssh is not installed", hint="install OpenSSH's client") from error
            raise UserError(f"ssh cannot be started: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def finish(self, content: bytes, timeout: float) -> Answer:
        """Give the command its input and wait for its end.

        Raises:
            UnavailableError: it did not end in time, or the host was not reached or lost.
            UserError: ssh refused the host, or the host us.
        """
        try:
            out, _ = self._process.communicate(content, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(
                f"{self._target.title}: no end of the command in {timeout:g} s"
            ) from error
        return self._answer(out)

    def first_line(self, timeout: float) -> Answer:
        """Wait for the first line; see ``Held.confirmed``."""
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout
        line = b""
        while b"\n" not in line and len(line) < _LINE:
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise UnavailableError(f"{self._target.title}: no answer in {timeout:g} s")
            if not (more := os.read(stdout.fileno(), _LINE)):
                return self.finish(b"", max(0.1, deadline - time.monotonic()))
            line += more
        return Answer(0, line.partition(b"\n")[0], "")

    def alive(self) -> bool:
        """Tell whether ssh runs, and with it the command, as far as is known here."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End ssh and what it started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self, patience: float = 0.0) -> None:
        """Close the command's input, wait so many seconds for its end, then end ssh."""
        process = self._process
        if process.stdin and not process.stdin.closed:
            process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        if process.returncode is None:
            self.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        self._clear()

    def _answer(self, out: bytes) -> Answer:
        code = self._process.returncode
        log = self._log.read_text("utf-8", "replace")
        self._err.seek(0)
        said = self._err.read().decode("utf-8", "replace")
        before, began, said = said.partition(f"{_BEGAN}\n")
        if not began:
            if code == _FAILED or code < 0:
                raise ssh_said.failure(self._target, log, before)
            words = out.decode("utf-8", "replace")
            raise ssh_said.shut(self._target, f"{words}\n{before}")
        ends = list(_END.finditer(said))
        if not ends:
            raise ssh_said.lost(self._target, log)
        end = ends[-1]
        return Answer(int(end[1]), out, said[: end.start()] + said[end.end() :])

    def _clear(self) -> None:
        self._err.close()
        self._log.unlink(missing_ok=True)


class Held:
    """A session that lives until it is closed, or until this process dies: its input ends then.

    For a lock on a host: ``flock -n FILE -c 'echo held; exec cat'``.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def confirmed(self, timeout: float = 60) -> Answer:
        """Wait for the first line that the command prints; call it once.

        Returns:
            The line in ``out``, code 0: it is held. Without a line the command has ended, and
            this is how: ``flock -n`` ends with 1 when another one has the lock.

        Raises:
            UnavailableError: no line and no end in time, or the host was not reached or lost.
            UserError: ssh refused the host, or the host us.
        """
        return self._session.first_line(timeout)

    def alive(self) -> bool:
        """Tell whether it is still held; a host that falls silent is noticed after 30 seconds."""
        return self._session.alive()

    def close(self) -> None:
        """End the session; what it held is free then. A second time is fine."""
        self._session.close(PATIENCE)


def _framed(command: str) -> str:
    script = f"echo {shlex.quote(_BEGAN)} >&2\n(\n{command}\n)\ncode=$?\n"
    script += f'echo "\n{_ENDED}$code" >&2\nexit $code'
    return f"exec /bin/sh -c {shlex.quote(script)}"
