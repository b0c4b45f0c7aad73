"""Runs commands on hosts by the user's own OpenSSH, with its configuration and agent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from mlstead.clients.ssh_session import Answer, Held, Session
from mlstead.clients.ssh_target import Target, check_key, environment, login, quoted
from mlstead.errors import PlatformError, UserError

__all__ = ["KNOWN_HOSTS", "Answer", "Held", "Ssh", "Target"]

KNOWN_HOSTS = "known_hosts"
# A Unix socket's path has at most 107 bytes; ssh adds 17 while it makes one, we add 13.
_LONGEST = 107 - 17 - 13
_ALONE = ("-o", "ControlMaster=no", "-o", "ControlPath=none")


class Ssh:
    """Reaches the hosts of one site.

    Connections are shared for a minute after the last use, by Ansible, too, when it is given
    ``arguments``. Safe for use by several threads.
    """

    def __init__(self, folder: Path) -> None:
        """Use the host keys of a folder, which is made if need be.

        Raises:
            UserError: it cannot be made, or is not yours.
        """
        self._folder = folder.absolute()
        self._lock = threading.Lock()
        self._made: Path | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o700)
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def arguments(self, target: Target) -> list[str]:
        """Give the options that reach a host, without the host.

        All are ``-o NAME=VALUE``, so scp and sftp take them, too. For Ansible, join them with
        ``shlex.join`` into ``ansible_ssh_common_args``.
        """
        mark = hashlib.sha256(repr(target).encode()).hexdigest()[:12]
        known = f"{quoted(self._folder / KNOWN_HOSTS)} ~/.ssh/known_hosts"
        options = (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            f"UserKnownHostsFile={known}",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "ConnectTimeout=10",
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
            "ControlMaster=auto",
            f"ControlPath={quoted(self._sockets() / mark)}",
            "ControlPersist=60s",
            "LogLevel=ERROR",
            # What a user may have configured for sessions by hand.
            "RemoteCommand=none",
            "ClearAllForwardings=yes",
            "ForwardAgent=no",
            "ForwardX11=no",
            "PermitLocalCommand=no",
        )
        return [*login(target), *(word for option in options for word in ("-o", option))]

    def run(
        self, target: Target, command: str, *, input: bytes = b"", timeout: float = 60
    ) -> Answer:
        """Run a command by ``/bin/sh`` on a host and wait for its end.

        The command is seen by all users of both machines: secrets go by ``input``. After a
        timeout it may still run there.

        Raises:
            UnavailableError: the host does not answer, or was lost, or took too long.
            UserError: the host's key is not the one known, it does not let us in, or ssh or the
                key is missing.
        """
        return self._run(target, command, input, timeout, _Crowd())

    def run_all(
        self,
        calls: Sequence[tuple[Target, str, bytes]],
        *,
        timeout: float = 60,
        at_once: int = 32,
    ) -> list[Answer | PlatformError]:
        """Run commands side by side: (host, command, input); one's failure stops no other.

        Returns:
            The answers, or what ``run`` would have raised, in the order of the calls.
        """
        crowd = _Crowd()

        def call(target: Target, command: str, content: bytes) -> Answer | PlatformError:
            try:
                return self._run(target, command, content, timeout, crowd)
            except PlatformError as error:
                return error

        with ThreadPoolExecutor(max_workers=max(1, min(at_once, len(calls)))) as pool:
            asked = [pool.submit(call, *given) for given in calls]
            try:
                return [future.result() for future in asked]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                crowd.disperse()
                raise

    def hold(self, target: Target, command: str) -> Held:
        """Start a command that lives until it is closed or this process dies.

        It has a connection of its own.

        Raises:
            UserError: ssh or the key is missing.
        """
        check_key(target)
        options = [*_ALONE, *self.arguments(target)]
        return Held(Session(target, options, command, self._sockets()))

    def close(self) -> None:
        """End the shared connections."""
        with self._lock:
            folder, self._made = self._made, None
        if folder is None:
            return
        asked = [_end_master(path) for path in folder.iterdir() if path.is_socket()]
        for process in asked:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)

    def _run(
        self, target: Target, command: str, content: bytes, timeout: float, crowd: _Crowd
    ) -> Answer:
        check_key(target)
        with Session(target, self.arguments(target), command, self._sockets()) as session:
            crowd.join(session)
            try:
                return session.finish(content, timeout)
            finally:
                crowd.leave(session)

    def _sockets(self) -> Path:
        """Give the folder of the control sockets, with a short path; it is made with the first."""
        with self._lock:
            if self._made is None:
                runtime = os.environ.get("XDG_RUNTIME_DIR", "")
                near = len(os.fsencode(runtime)) + len("/mlstead-ssh-12345678") <= _LONGEST
                place = runtime if runtime and near and Path(runtime).is_dir() else "/tmp"
                self._made = Path(tempfile.mkdtemp(prefix="mlstead-ssh-", dir=place))  # 0700
            return self._made


class _Crowd:
    """Sessions that are ended together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: set[Session] = set()
        self._over = False

    def join(self, session: Session) -> None:
        with self._lock:
            self._sessions.add(session)
            if self._over:
                session.kill()

    def leave(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)

    def disperse(self) -> None:
        with self._lock:
            self._over = True
            for session in self._sessions:
                session.kill()


def _end_master(socket: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["ssh", "-F", "none", "-O", "exit", "-o", f"ControlPath={quoted(socket)}", "--", "any"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
