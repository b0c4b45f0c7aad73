"""The background driver: started when a run needs one, alone per home, gone when idle.

It is itself a task of the engine, so the engine's keeper starts it again should it be killed.
"""

import fcntl
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlstead import discover, work
from mlstead.engines.base import Reason, Resources, Retry, Secret, Task
from mlstead.errors import NotFoundError, UnavailableError
from mlstead.platform.context import Context
from mlstead.records.base import Query
from mlstead.work.base import Backends

LINGER_SECONDS = 15.0
PATIENCE = 2.0  # who starts a driver holds the lock for a moment
PASSED = (
    "MLSTEAD_REGISTRY_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLSTEAD_RECORDS",
)
BUILDING = ("UV_", "PIP_")  # where packages come from; an address may hold a password
COPIED = (
    "MLSTEAD_TRACKING", "MLSTEAD_SECRETS", "MLSTEAD_CAPACITY",
    "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE",
    "KUBECONFIG", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE",
)  # fmt: skip


@contextmanager
def _alone(path: Path, patience: float = 0.0) -> Iterator[int | None]:
    """Hold a lock that ends with this process; give its file, or None if another holds it."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    end = time.monotonic() + patience
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= end:
                    yield None
                    return
                time.sleep(0.01)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock_file(home: Path, context: Context, role: str) -> Path:
    return home / f"{role}-{context.name}.lock"


def ensure(backends: Backends, context: Context, role: str = "drive") -> None:
    """See to it that a driver runs; call it after the run that needs it was recorded.

    ``role`` is ``drive`` or ``track`` (the copy to MLflow, apart because MLflow is slow to load).
    """
    try:
        _ensure(backends, context, role)
    except OSError as error:
        raise UnavailableError(
            f"no driver can be started: {error.strerror or error}",
            hint="free some space; what was recorded goes on with the next mlstead command",
        ) from error


def _ensure(backends: Backends, context: Context, role: str) -> None:
    with _alone(_lock_file(backends.home, context, role)) as lock:
        if lock is None or _starting(backends, lock):
            return
        task = _task(backends, context, role)
        values = {name: os.environ[name] for name in _passed()}
        os.ftruncate(lock, 0)
        os.pwrite(lock, task.id.encode(), 0)
        engine = backends.helper or backends.engine
        facts = engine.facts() if backends.helper else backends.facts
        engine.submit([engine.prepare(task, facts)], values)


def _starting(backends: Backends, lock: int) -> bool:
    """Say whether the driver that was sent last is on its way and has not got the lock yet."""
    last = os.pread(lock, 200, 0).decode()
    try:
        engine = backends.helper or backends.engine
        return bool(last) and not engine.status(last).phase.final
    except NotFoundError:
        return False


def _passed() -> list[str]:
    """Name the variables that a driver gets from us and that stand in no request."""
    return [
        name
        for name, value in os.environ.items()
        if value and (name in PASSED or name.startswith(BUILDING))
    ]


def _task(backends: Backends, context: Context, role: str) -> Task:
    env = {name: os.environ[name] for name in COPIED if os.environ.get(name)}
    env |= {"MLSTEAD_HOME": str(backends.home), "MLSTEAD_CONTEXT": context.name}
    return Task(
        id=f"{role}-{secrets.token_hex(6)}",
        command=(sys.executable, "-m", "mlstead", "drive", "--role", role),
        env=env,
        secrets=tuple(Secret(name, env=name) for name in _passed()),
        resources=Resources(cpu=0, memory=0),
        retry=Retry(100, (Reason.ERROR, Reason.LOST, Reason.OOM), backoff=1.0),
        priority=1_000_000,
        interactive=False,
    )


def drive(backends: Backends, context: Context) -> None:
    """Drive all open runs until none is left and nothing has come for a while."""
    path = _lock_file(backends.home, context, "drive")
    while True:
        with _alone(path, PATIENCE) as mine:
            if mine is None:
                return
            os.ftruncate(mine, 0)  # on its way no more: whoever finds the lock free starts another
            _drive(backends, context)
        # a run recorded just before the lock was let go found it held: look once more
        if not backends.store.runs(Query(parent="*", driven=True, limit=1)):
            return


def _drive(backends: Backends, context: Context) -> None:
    loop = discover.part(work, "drive").Loop(backends)
    idle_since = checked = time.monotonic()
    try:
        while time.monotonic() - idle_since < LINGER_SECONDS:
            loop.turn(1.0)
            if loop.busy:
                idle_since = time.monotonic()
            if time.monotonic() - checked > 1.0:
                checked = time.monotonic()
                if backends.store.runs(Query(parent="*", open=True, limit=1)):
                    idle_since = checked  # a job runs whose outputs somebody must keep
                ensure_tracking(backends, context)
    finally:
        loop.close()


def ensure_tracking(backends: Backends, context: Context) -> None:
    """Start the copy to MLflow if there is something to copy."""
    if backends.tracking and discover.part(work, "tracking").wanted(backends):
        ensure(backends, context, "track")


def track(backends: Backends, context: Context) -> None:
    """Copy to MLflow until there is nothing left to copy."""
    tracking = discover.part(work, "tracking")
    while True:
        with _alone(_lock_file(backends.home, context, "track"), PATIENCE) as mine:
            if mine is None:
                return
            os.ftruncate(mine, 0)
            os.nice(10)
            tracking.run(backends)
        if not tracking.wanted(backends):
            return
