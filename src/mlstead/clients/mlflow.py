"""Copies runs, metrics and model versions to MLflow; the records stay the truth.

The only module that imports MLflow, which takes seconds: it is reached when there is something to
copy, and only by the driver.
"""

import contextlib
import fcntl
import getpass
import json
import logging
import math
import os
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# MLflow reads these when it is imported: nothing is sent to its makers, nothing chatted to the
# screen, and a server that is down does not hold the driver for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")

import requests
import sqlalchemy.exc
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from mlstead.clients.tracking import Measured, NewRun, NewVersion, Read, ReadBack
from mlstead.errors import (
    ConflictError,
    NotFoundError,
    PlatformError,
    UnavailableError,
    UserError,
)

logging.getLogger("alembic").setLevel(logging.WARNING)

RUN_ID = "mlstead.run_id"
VERSION = "mlstead.version"
_POINTS, _PARAMS = 1000, 100  # of one batch
_KEY, _VALUE, _TAG = 250, 6000, 8000  # characters
_GAP = 200  # version numbers skipped at most, so that MLflow's number is ours
_STATES = {"succeeded": "FINISHED", "cancelled": "KILLED", "running": "RUNNING"}
_MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_WRONG = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "PERMISSION_DENIED", "UNAUTHENTICATED"}


class Tracking:
    """One MLflow store: ``sqlite:///<home>/mlflow.db``, another database, or a server.

    Every method raises UnavailableError when the store does not answer, NotFoundError when it has
    no such run or model, UserError when it refuses. One thread at a time.
    """

    def __init__(self, tracking_uri: str) -> None:
        """Open the store; a SQLite file that is not there is made, which takes seconds."""
        self.uri = tracking_uri
        self._artifacts = ""
        with _translated():
            if tracking_uri.startswith("sqlite:///"):
                file = Path(tracking_uri.removeprefix("sqlite:///"))
                self._artifacts = (file.parent / "mlartifacts").resolve().as_uri()
                _create(file, self._artifacts)
            self._client = MlflowClient(tracking_uri, registry_uri=tracking_uri)
        self._experiments: dict[str, str] = {}

    # ---- runs ------------------------------------------------------------------------------

    def open_run(self, run: NewRun) -> str:
        """Make the copy of a run and give MLflow's id of it; a copy that is there is given."""
        with _translated():
            experiment = self._experiment(run.project)
            wanted = f"tags.`{RUN_ID}` = '{run.run_id}'"
            found = self._client.search_runs([experiment], wanted, ViewType.ACTIVE_ONLY, 1)
            if found:
                return str(found[0].info.run_id)
            tags = {"mlflow.user": _user(), **run.tags, RUN_ID: run.run_id}
            if run.parent:
                tags["mlflow.parentRunId"] = run.parent
            made = self._client.create_run(
                experiment,
                start_time=None if run.started is None else _milliseconds(run.started),
                tags={_key(name): text[:_TAG] for name, text in tags.items()},
                run_name=run.name,
            )
        self.log_params(made.info.run_id, run.params)
        return str(made.info.run_id)

    def log_points(self, mlflow_id: str, points: Sequence[Measured]) -> None:
        """Copy points, in order; those of other ranks than 0 become ``KEY/rank1``.

        A point copied twice is one, but a repeat is slow: keep a cursor. NaN is kept, the
        infinities become the largest numbers (MLflow's databases know neither).
        """
        with _translated():
            for start in range(0, len(points), _POINTS):
                part = [_metric(point) for point in points[start : start + _POINTS]]
                self._client.log_batch(mlflow_id, metrics=part)

    def log_params(self, mlflow_id: str, params: Mapping[str, Any]) -> None:
        """Copy parameters; one that MLflow has already keeps its value, as MLflow demands."""
        if not params:
            return
        with _translated():
            there = self._client.get_run(mlflow_id).data.params
            wanted = {_key(name): _text(value)[:_VALUE] for name, value in params.items()}
            new = [Param(name, text) for name, text in wanted.items() if name not in there]
            for start in range(0, len(new), _PARAMS):
                self._client.log_batch(mlflow_id, params=new[start : start + _PARAMS])

    def set_tags(self, mlflow_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run's copy; a value is cut after 8,000 characters."""
        new = [RunTag(_key(name), text[:_TAG]) for name, text in tags.items()]
        with _translated():
            for start in range(0, len(new), _PARAMS):
                self._client.log_batch(mlflow_id, tags=new[start : start + _PARAMS])

    def close_run(self, mlflow_id: str, state: str, ended: float) -> None:
        """Say how a run ended, and when, in Unix seconds; what is no success is FAILED."""
        status = _STATES.get(state, "FAILED")
        with _translated():
            self._client.set_terminated(mlflow_id, status, _milliseconds(ended))

    def read_back(self, mlflow_id: str, known: Collection[str] = ()) -> ReadBack:
        """Read what a script logged itself: every metric and parameter but the ``known`` keys."""
        with _translated():
            data = self._client.get_run(mlflow_id).data
            ours = {_key(name) for name in known}
            keys = [key for key in sorted(data.metrics) if _RANK.sub("", key) not in ours]
            points = [
                Read(key, float(one.value), int(one.step), one.timestamp / 1000)
                for key in keys
                for one in self._client.get_metric_history(mlflow_id, key)
            ]
            params = {name: text for name, text in data.params.items() if name not in ours}
        return ReadBack(tuple(points), params)

    # ---- models ----------------------------------------------------------------------------

    def register_model(self, version: NewVersion) -> str:
        """Copy a model version and give MLflow's number of it, which is ours where possible.

        MLflow counts by itself. Where it is behind, because versions were not copied, its numbers
        are used up until they meet; ours is in the tag ``mlstead.version`` in any case.
        """
        with _translated():
            try:
                self._client.create_registered_model(version.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            number = self._theirs(version.name).get(version.number) or self._make(version)
        for alias in version.aliases:
            self.set_alias(version.name, alias, version.number)
        return number

    def set_alias(self, name: str, alias: str, number: int) -> bool:
        """Let an alias point at our version ``number``; 0 removes it.

        Returns:
            False where MLflow keeps the alias for itself: ``latest``, ``v1``.
        """
        if alias.lower() == "latest" or re.fullmatch(r"[vV]\d+", alias):
            return False
        with _translated():
            if not number:
                self._client.delete_registered_model_alias(name, alias)
                return True
            there = self._theirs(name).get(number)
            if there is None:
                raise NotFoundError(f"MLflow has no version {number} of model {name!r}")
            self._client.set_registered_model_alias(name, alias, there)
        return True

    def _theirs(self, name: str) -> dict[int, str]:
        """Map our version numbers to MLflow's."""
        found, token = {}, None
        while True:
            page = self._client.search_model_versions(f"name = '{name}'", page_token=token)
            for one in page:
                if (ours := one.tags.get(VERSION, "")).isdecimal():
                    found[int(ours)] = str(one.version)
            token = page.token
            if not token:
                return found

    def _make(self, version: NewVersion) -> str:
        tags = {name: str(text)[:_TAG] for name, text in version.tags.items()}
        for _ in range(_GAP):
            made = self._client.create_model_version(
                version.name,
                version.source,
                run_id=version.run or None,
                tags={**tags, VERSION: str(version.number)},
                await_creation_for=0,
            )
            first = int(made.version)
            if first >= version.number or version.number - first >= _GAP:
                break
            self._client.delete_model_version(version.name, made.version)
        return str(made.version)

    def _experiment(self, project: str) -> str:
        if project in self._experiments:
            return self._experiments[project]
        found = self._client.get_experiment_by_name(project)
        if found is None:
            place = f"{self._artifacts}/{project}" if self._artifacts else None
            try:
                number = self._client.create_experiment(project, place)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                number = self._client.get_experiment_by_name(project).experiment_id
        else:
            number = found.experiment_id
            if found.lifecycle_stage == "deleted":
                self._client.restore_experiment(number)
        self._experiments[project] = number
        return str(number)


def _create(file: Path, artifacts: str) -> None:
    """Make an MLflow database aside and move it into place, so that none is ever half made."""
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if file.exists():
            return
        aside = file.with_name(f"{file.name}.new")
        aside.unlink(missing_ok=True)
        store = SqlAlchemyStore(f"sqlite:///{aside}", artifacts)
        store.engine.dispose()
        # Readers and one writer at once: the driver, the user's script, mlflow ui.
        with contextlib.closing(sqlite3.connect(aside)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        aside.replace(file)


_RANK = re.compile(r"/rank\d+$")
_LARGEST_STEP = 2**63 - 1


def _metric(point: Measured) -> Metric:
    key = _key(point.key) if not point.rank else f"{_key(point.key, 12)}/rank{point.rank}"
    step = max(-_LARGEST_STEP, min(_LARGEST_STEP, int(point.step)))
    return Metric(key, float(point.value), _milliseconds(point.time), step)


def _key(name: str, spare: int = 0) -> str:
    """Give a name that MLflow takes: letters, digits, ``_-.: /``, and no path tricks."""
    clean = re.sub(r"[^\w\-.: /]", "_", name)
    parts = [part for part in clean.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[: _KEY - spare].rstrip("/") or "_"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000) if math.isfinite(seconds) else 0


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        raise _error(error) from error
    except (sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, requests.RequestException) as error:
        raise UnavailableError(f"MLflow does not answer: {_line(error)}") from error
    except OSError as error:
        raise UnavailableError(f"MLflow's files: {error.strerror or error}") from error


def _error(error: MlflowException) -> PlatformError:
    if "out-of-date database schema" in str(error):
        return UserError("MLflow's database is of an older MLflow", hint="mlflow db upgrade URI")
    if error.error_code in _MISSING:
        return NotFoundError(f"MLflow: {_line(error)}")
    if error.error_code == "RESOURCE_ALREADY_EXISTS":
        return ConflictError(f"MLflow: {_line(error)}")
    if error.error_code in _WRONG:
        return UserError(f"MLflow refused: {_line(error)}")
    return UnavailableError(f"MLflow does not answer: {_line(error)}")


def _line(error: Exception) -> str:
    """Give the first line of an error, without the password of an address."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r"://[^@/\s]+@", "://***@", first)[:300]
