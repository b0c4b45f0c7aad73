"""Opens what a context names: engine, records, artifact store, code store, secrets."""

import contextlib
import importlib.util
import os
import secrets
import socket
import time
import weakref
from pathlib import Path

import mlstead.artifacts
import mlstead.engines
import mlstead.records
from mlstead import discover
from mlstead.artifacts.code import CodeStore
from mlstead.clients import tracking
from mlstead.clients.secrets import SecretStore
from mlstead.engines.base import Engine, Place
from mlstead.errors import ConflictError, UserError
from mlstead.platform.context import HERE, Context, engine_of, make_home
from mlstead.records.base import SetCursor, Store
from mlstead.work.base import Backends

TAKE = "MLSTEAD_TAKE_RECORDS"


def open_backends(home: Path, context: Context) -> Backends:
    """Open everything; folders are made on first use.

    Raises:
        UserError: the home folder cannot be written.
        UnavailableError: the records do not answer.
    """
    make_home(home)
    engine = engine_of(home, context)
    # until a cluster has a driver of its own, this machine drives what runs there
    helper = None if context.engine in HERE else _local(home)
    # versions are only worth something beside the store that holds their bytes: a context with a
    # store of its own has records, cache and MLflow of its own, too
    own = home / "contexts" / context.name if context.artifacts else home
    own.mkdir(parents=True, exist_ok=True)
    url = os.environ.get("MLSTEAD_RECORDS") or context.records or f"sqlite:///{own}/records.db"
    cache = own / "cache"
    if context.artifacts.startswith("s3://"):
        store = discover.part(mlstead.artifacts, "s3").create(
            context.artifacts, cache, endpoint=context.endpoint or None
        )
    else:
        folder = context.artifacts or str(home / "store")
        store = discover.part(mlstead.artifacts, "folder").create(folder, cache)
    records = discover.part(mlstead.records, "sql").create(url)
    if not url.endswith(f"{own}/records.db"):
        _own(records, home, engine.name)
    backends = Backends(
        home=home,
        engine=engine,
        facts=engine.facts(),
        store=records,
        artifacts=store,
        code=CodeStore(home / "code.git", home),
        secrets=SecretStore(home),
        clock=time.time,
        tracking=tracking_uri(own),
        own=own,
        helper=helper,
    )
    # connections go when the last user of them does: a verb, a driver, a Python program
    weakref.finalize(backends, _close, records, engine, *([helper] if helper else []))
    return backends


def _local(home: Path) -> Engine:
    engine: Engine = discover.part(mlstead.engines, "local").create(Place(home))
    return engine


def _own(records: Store, home: Path, engine: str) -> None:
    """Bind records that lie elsewhere to this home, or refuse those of another.

    Its tasks, code and files are what the runs are about; another home knows none of them, and its
    driver would end them as lost.

    Raises:
        UserError: they belong to another home, which is still there as far as one can tell.
    """
    token = _token(home)
    name, mine = f"home:{engine}", f"{token} {socket.gethostname()}:{home}"
    was = records.cursor(name)
    if was.split(" ")[0] == token:
        return
    host, _, place = was.partition(" ")[2].partition(":")
    gone = host == socket.gethostname() and not Path(place).exists()
    if was and not gone and not os.environ.get(TAKE):
        raise UserError(
            f"these records belong to another home: {host}:{place}",
            hint=f"give every MLSTEAD_HOME records of its own; {TAKE}=1 takes those of a lost one",
        )
    try:
        records.commit([SetCursor(name, was, mine)])
    except ConflictError:
        _own(records, home, engine)


def _token(home: Path) -> str:
    """Give what tells a home from all others, wherever it lies and whatever its host is called."""
    file = home / "id"
    try:
        return file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        aside = home / f".id.{os.getpid()}"
        aside.write_text(secrets.token_hex(8), encoding="ascii")
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(aside)
        aside.unlink()
        return file.read_text(encoding="ascii").strip()


def _close(records: Store, *engines: Engine) -> None:
    for engine in engines:
        engine.close()
    records.close()


def tracking_uri(home: Path) -> str:
    """Give the MLflow address of this home; "" where MLflow is not installed or switched off."""
    if os.environ.get("MLSTEAD_TRACKING") == "off":
        return ""
    if importlib.util.find_spec("mlflow") is None:
        return ""
    return os.environ.get("MLSTEAD_TRACKING") or tracking.default_uri(home)
