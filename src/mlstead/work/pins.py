"""Fixes, at submission, everything a run's result depends on: code, environment, data.

A pin is plain JSON data, kept with the run. Aliases and folders are looked at once, here; later
steps of the same run use what was pinned, whatever has changed meanwhile.
"""

import dataclasses
import hashlib
import importlib.util
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlstead import artifacts, clients, discover
from mlstead.artifacts.base import Manifest, Progress
from mlstead.clients import uv
from mlstead.engines.base import Environment
from mlstead.errors import NotFoundError, UserError
from mlstead.spec.address import secretive, shown
from mlstead.spec.expressions import expand, references
from mlstead.spec.work import Code, Data, JobBody, Message, Python, ServiceBody
from mlstead.work.base import Backends
from mlstead.work.caller import environment_key

Pin = dict[str, Any]


def pin_body(
    backends: Backends,
    body: JobBody | ServiceBody,
    folder: Path,
    project: str,
    scope: Mapping[str, Any],
    *,
    wait: bool = False,
) -> Pin:
    """Pin one job or service: code tree, environment, and the data that can be named already.

    ``wait`` is kept for its tasks: they wait for a host that is large enough.

    Raises:
        UserError: a folder, lock file, version or secret does not exist.
    """
    tree = snapshot(backends, body.code, folder)
    environment = pin_python(backends, body.python, getattr(body, "setup", ""), folder)
    own = (
        environment is not None
        or backends.remote
        or (isinstance(body, JobBody) and bool(body.image))
    )
    for name in body.secrets.values():
        _check_secret(backends, name if isinstance(name, str) else name.name, "secrets")
    check_notify(backends, body.notify)
    pin: Pin = {
        "tree": tree,
        "environment": dataclasses.asdict(environment) if environment else None,
        "called_from": "" if own else environment_key(backends),
        "data": {},
        "folder": str(folder),
        "patient": wait,
        "image": str(backends.facts.details.get("image", "")),
    }
    if isinstance(body, JobBody):
        pin["tracked"] = _uses_mlflow(backends, body, tree, environment)
        for slot, data in body.data.items():
            check_address(slot, data, scope)
        pin["data"] = {
            slot: _pin_slot(backends, slot, expanded(data, scope), folder, project)
            for slot, data in body.data.items()
            if not data.step and _known(data)
        }
    return pin


def key_of_environment(pin: Mapping[str, Any]) -> str:
    """Give the key of the Python that a pinned job runs in: its own, or where it was called."""
    own = (pin.get("environment") or {}).get("key", "")
    return str(own or pin.get("called_from", ""))


def _known(data: Data) -> bool:
    """Say whether data can be named at submission: nothing in its name comes from a step."""
    roots = {path.split(".")[0].split("[")[0] for path in references(data.model_dump())}
    return roots <= {"params", "run"}


def expanded(data: Data, scope: Mapping[str, Any]) -> Data:
    """Insert values into the name of data."""
    return data.model_copy(
        update={
            field: str(expand(getattr(data, field), scope))
            for field in ("version", "path", "url", "sha256")
        }
    )


def check_address(slot: str, data: Data, scope: Mapping[str, Any]) -> None:
    """Refuse an address whose secret part would have to be kept in the records.

    The recorded spec has addresses without passwords and values of the query. That does no harm
    where they are fetched now; what is fetched later needs them, and params are recorded whole.

    Raises:
        UserError: such a part is there.
    """
    hint = "keep it once: mlstead data add NAME ADDRESS --sha256 …; then write NAME@1 here"
    if not _known(data):
        if shown(data.url) != data.url:
            why = "is fetched later, and its password or query would stay in the records"
            raise UserError(f"data.{slot}.url: {why}", hint=hint)
    elif secretive(expanded(data, scope).url) and not secretive(data.url):
        raise UserError(f"data.{slot}.url: a param has a secret, and is recorded", hint=hint)


def snapshot(backends: Backends, code: Code | None, folder: Path) -> str:
    """Keep the code folder as a tree in the code store; give its hash, "" without code."""
    if code is None:
        return ""
    where = (folder / code.path).resolve()
    if not where.is_dir():
        raise UserError(f"code: no folder {where}", hint="code.path is relative to the work file")
    return backends.code.snapshot(where, include=code.include).tree


def pin_python(
    backends: Backends, python: Python | None, setup: str, folder: Path
) -> Environment | None:
    """Turn a lock file, or requirements resolved now, into an environment with a key."""
    if python is None:
        if setup:
            raise UserError(
                "setup: needs an environment of its own", hint="add `python: {lock: …}`"
            )
        return None
    text = ""
    if python.lock:
        text = _read_lock(folder / python.lock)
    elif python.requirements:
        place = folder / python.requirements
        text = uv.resolve(_read(place), python.version, folder=place.parent)
    details = backends.facts.details
    parts = [text, python.version or str(details.get("python", "")), str(details.get("platform"))]
    key = hashlib.sha256(json.dumps([*parts, setup]).encode()).hexdigest()[:24]
    return Environment(key, text, python.version, setup, hashes="--hash=" in text)


def _pin_slot(backends: Backends, slot: str, data: Data, folder: Path, project: str) -> Pin:
    try:
        return pin_data(backends, data, folder, project)
    except UserError as error:
        text = str(error).removeprefix("data: ")
        raise type(error)(f"data.{slot}: {text}", hint=error.hint) from error


def pin_data(backends: Backends, data: Data, folder: Path, project: str) -> Pin:
    """Turn the name of data into the digest of what it is now."""
    if data.version:
        name, _, at = data.version.partition("@")
        kind = "data"
        try:
            version = backends.store.version(project, "data", name, at)
        except NotFoundError:
            if backends.store.versions(project, "data", name):
                raise
            kind = "model"
            if not backends.store.versions(project, "model", name):
                raise NotFoundError(
                    f"no data or model {name}{'@' + at if at else ''}", hint="mlstead data list"
                ) from None
            version = backends.store.version(project, "model", name, at)
        ref = f"{name}@{version.number}"
        return {"digest": version.digest, "ref": ref, "kind": kind, "mode": data.mode}
    if data.path:
        source = (folder / data.path).resolve()
        if not source.exists():  # a folder given by -p is mostly meant from where the person is
            source = Path(data.path).resolve()
        if not source.exists():
            raise UserError(f"data: no file or folder {source}")
        manifest = keep_path(backends, source)
        return {"digest": manifest.digest, "ref": data.path, "kind": "path", "mode": data.mode}
    with tempfile.TemporaryDirectory(dir=backends.home) as aside:
        sources = discover.part(artifacts, "sources")
        target = Path(aside) / sources.suggested_name(data.url)
        sources.fetch(data.url, data.sha256, target)
        manifest = backends.artifacts.add(target)
    return {"digest": manifest.digest, "ref": shown(data.url), "kind": "url", "mode": data.mode}


def keep_path(backends: Backends, path: Path, progress: Progress | None = None) -> Manifest:
    """Keep a folder or file; a ``.dvc`` file stands for the data it names."""
    if path.suffix != ".dvc" or not path.is_file():
        return backends.artifacts.add(path, progress=progress)
    out = discover.part(clients, "dvcfile").read_dvc(path)
    for folder in path.absolute().parents:
        if (folder / ".dvc").is_dir():
            return backends.artifacts.adopt(folder / ".dvc" / "cache", out)
    raise NotFoundError(f"{path}: lies in no DVC repository")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"python: cannot read {path}: {error.strerror}") from error


def _read_lock(path: Path) -> str:
    if path.name == "uv.lock":
        return uv.export(path)
    return _read(path)


def _uses_mlflow(
    backends: Backends, body: JobBody, tree: str, environment: Environment | None
) -> bool:
    """Say whether the program may call MLflow itself, so that its run must be open before."""
    if not backends.tracking or (backends.remote and not backends.tracking.startswith("http")):
        return False  # pods cannot reach a folder of this machine; the copy is made all the same
    if environment is None:
        there = importlib.util.find_spec("mlflow") is not None
    else:
        there = bool(re.search(r"(?m)^mlflow\b", environment.requirements))
    command = body.command if isinstance(body.command, str) else " ".join(body.command)
    return there and ("mlflow" in command or (bool(tree) and backends.code.grep(tree, "mlflow")))


def check_notify(backends: Backends, rules: Sequence[Message]) -> None:
    """Refuse a message whose address is not known."""
    for rule in rules:
        _check_secret(backends, rule.to, "notify")


def _check_secret(backends: Backends, name: str, field: str) -> None:
    if name not in backends.secrets.names():
        raise UserError(f"{field}: no secret {name!r}", hint=f"mlstead secret set {name}")
