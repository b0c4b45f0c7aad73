"""Says which models a service means, what its server runs in, and refuses what cannot be done."""

import re
from collections.abc import Collection, Mapping
from typing import Any

from mlstead.errors import UserError
from mlstead.records.base import Version
from mlstead.spec.expressions import as_text, expand
from mlstead.spec.work import Data, ServiceBody
from mlstead.work.base import Backends

SERVER_NEEDS = (
    "httptools",
    "numpy",
    "orjson",
    "prometheus-client",
    "pydantic",
    "uvicorn",
    "uvloop",
)
"""Packages the server imports, whatever it serves."""
SERVER_PYTHON = (3, 11)


def refuse_unsupported(backends: Backends, spec: ServiceBody) -> None:
    """Refuse what the engine cannot honour yet, by name."""
    if backends.remote:
        raise UserError(
            f"kind service: not supported by engine {backends.engine.name} yet",
            hint="--on local serves on this machine",
        )
    if spec.replicas.max > 1:
        raise UserError("replicas: more than one is not supported by engine local yet")
    if spec.rollout is not None:
        raise UserError("rollout: not supported by engine local yet")
    models = [spec.model, *(version.model for version in spec.versions.values())]
    if any(isinstance(model, Data) and (model.path or model.url) for model in models):
        raise UserError("model: path and url are not supported by engine local yet")
    if spec.native:
        raise UserError("native: not supported by engine local yet")


def named(spec: ServiceBody, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Insert values into the names of a service's models: ``{"v3": {"version": "net@3"}}``."""
    wanted = {name: version.model for name, version in spec.versions.items()}
    if spec.model:
        wanted[""] = spec.model
    texts = {
        name: model if isinstance(model, str) else model.version for name, model in wanted.items()
    }
    return {name: {"version": as_text(expand(text, scope))} for name, text in texts.items()}


def resolve_versions(
    backends: Backends, project: str, spec: ServiceBody, given: Mapping[str, Any]
) -> dict[str, Any]:
    """Say which model bytes each version means: ``{"v3": {digest, ref, number, runtime}}``.

    ``given`` holds what a pipeline resolved already, by version name ("" for ``model:``).
    """
    wanted: dict[str, Any] = {
        name: (version.model, version.runtime or spec.runtime)
        for name, version in spec.versions.items()
    }
    if spec.model:
        wanted[""] = (spec.model, spec.runtime)
    if not wanted:
        raise UserError("service: names no model", hint="add `model: NAME@VERSION`")
    versions: dict[str, Any] = {}
    for name, (model, runtime) in wanted.items():
        found = _find(backends, project, model, given.get(name))
        number = found["number"]
        versions[name or f"v{number}"] = {**found, "runtime": runtime}
    return versions


def check_models(
    backends: Backends, project: str, spec: ServiceBody, made: Collection[str]
) -> None:
    """Refuse a service whose model is named already, is not there, and will not be ``made``."""
    for model in (spec.model, *(version.model for version in spec.versions.values())):
        text = model if isinstance(model, str) else model.version
        if text and "${{" not in text and text.partition("@")[0] not in made:
            _find(backends, project, model, None)


def _find(
    backends: Backends, project: str, model: Any, given: Mapping[str, Any] | None
) -> dict[str, Any]:
    if given and "digest" in given:
        known = backends.store.versions(project, "model", digest=given["digest"])
        name, _, number = given["ref"].partition("@")
        at = int(number) if number else (known[-1].number if known else 1)
        return {"digest": given["digest"], "ref": given["ref"], "number": at, "name": name}
    text = given["version"] if given else (model if isinstance(model, str) else model.version)
    name, _, at_text = text.partition("@")
    version: Version = backends.store.version(project, "model", name, at_text)
    ref = f"{name}@{version.number}"
    return {"digest": version.digest, "ref": ref, "number": version.number, "name": name}


def refuse_environment(spec: ServiceBody, environment: Mapping[str, Any] | None) -> None:
    """Refuse an environment in which mlstead's model server cannot run.

    Raises:
        UserError: its Python is too old, or its lock lacks a package the server imports.
    """
    if environment is None:
        return
    version = str(environment["version"])
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if numbers and numbers < SERVER_PYTHON:
        wanted = ".".join(map(str, SERVER_PYTHON))
        raise UserError(f"python.version: the model server needs {wanted} or newer, not {version}")
    if re.search(r"(?mi)^mlstead\b", environment["requirements"]):
        return
    names = re.findall(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)", environment["requirements"])
    locked = {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    runtimes = {spec.runtime, *(version.runtime for version in spec.versions.values())}
    needs = [*SERVER_NEEDS, *(["onnxruntime"] if "onnx" in runtimes else [])]
    missing = [name for name in needs if name not in locked]
    if missing:
        raise UserError(
            f"python: the lock lacks what the model server needs: {', '.join(missing)}",
            hint="lock them with the rest, or leave python: out to serve with mlstead's own",
        )
