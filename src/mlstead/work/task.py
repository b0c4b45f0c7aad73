"""Builds an engine's Task from a job's resolved spec and its pins; pure but for locating inputs."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mlstead.engines.base import (
    Code,
    Environment,
    Input,
    Reason,
    Resources,
    Retry,
    Secret,
    Task,
    Workers,
)
from mlstead.errors import SpecError
from mlstead.records.base import Run
from mlstead.spec.expressions import as_text, expand, expand_command
from mlstead.spec.names import check_alias, check_versioned
from mlstead.spec.record import dump
from mlstead.spec.work import JobBody
from mlstead.work.base import Backends
from mlstead.work.inputs import locate
from mlstead.work.pins import key_of_environment

PRIORITIES = {"low": -100, "normal": 0, "high": 100}


def resolve(
    body: JobBody,
    scope: Mapping[str, Any],
    params: Mapping[str, Any],
    dumped: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Insert every value into a job's spec; what comes out is never expanded again.

    ``dumped`` is the body as ``dump`` gives it, for those who resolve it many times.
    """
    spec = dict(dumped) if dumped is not None else dump(body)
    scope = {**scope, "params": {**scope.get("params", {}), **params}}
    spec["params"] = dict(params)
    spec["command"] = list(expand_command(body.command, scope))
    for field in ("env", "image", "outputs"):
        spec[field] = expand(spec[field], scope)
    names = [(it["kind"], it["name"]) for it in spec["outputs"].values() if it["name"]]
    if len(set(names)) < len(names):
        raise SpecError("outputs: two of them have the same name")
    for output in spec["outputs"].values():
        if output["name"]:
            check_versioned(output["name"])
        for alias in output["alias"]:
            check_alias(alias)
    spec["env"] = {key: as_text(value) for key, value in spec["env"].items()}
    return spec


def task_of(backends: Backends, run: Run) -> Task:
    """Make the Task of a job's run from its resolved spec and pins."""
    spec, pin = run.spec, run.extra["pin"]
    outputs = spec["outputs"]
    environment = pin.get("environment")
    return Task(
        id=run.id,
        command=tuple(spec["command"]),
        env=_env(backends, run),
        params=run.params,
        code=Code(str(backends.code.git_dir), pin["tree"]) if pin["tree"] else None,
        working_dir=spec["working_dir"],
        environment=Environment(**environment) if environment else None,
        image=spec["image"],
        inputs=tuple(
            Input(slot, locate(backends, data), data.get("mode", "link"))
            for slot, data in pin["data"].items()
        ),
        mounts=spec["mounts"],
        outputs=tuple(name for name, output in outputs.items() if output["kind"] != "value"),
        values=tuple(name for name, output in outputs.items() if output["kind"] == "value"),
        ranks=tuple(name for name, output in outputs.items() if output["ranks"] == "all"),
        secrets=_secrets(spec["secrets"]),
        resources=_resources(spec["resources"], backends.engine.name),
        workers=_workers(spec["workers"], spec["resources"], backends.engine.name),
        retry=Retry(spec["retries"]["max"], tuple(Reason(r) for r in spec["retries"]["for"])),
        timeout=spec["timeout"],
        max_queue_time=spec["max_queue_time"],
        grace=spec["grace"],
        patient=bool(pin.get("patient")),
        priority=_priority(spec["priority"]),
        queue=spec["queue"],
        ports=spec["ports"],
        labels={**run.labels, "project": run.project},
        native=spec["native"],
    )


def _env(backends: Backends, run: Run) -> dict[str, str]:
    env = dict(run.spec["env"])
    env["MLSTEAD_RUN_ID"] = run.id
    env["MLSTEAD_PROJECT"] = run.project
    seed = run.spec["seed"]
    if seed is not None:
        env["MLSTEAD_SEED"] = str(seed)
    if backends.tracking and run.extra["pin"].get("tracked"):
        env["MLFLOW_TRACKING_URI"] = backends.tracking
        env["MLFLOW_RUN_ID"] = run.mlflow
        env["MLFLOW_DISABLE_TELEMETRY"] = "true"
        env["MLFLOW_EXPERIMENT_NAME"] = run.project
    return env


def _secrets(spec: Mapping[str, Any]) -> tuple[Secret, ...]:
    return tuple(
        Secret(value, env=key)
        if isinstance(value, str)
        else Secret(value["name"], env=key, file=value["file"])
        for key, value in spec.items()
    )


def _resources(spec: Mapping[str, Any], engine: str) -> Resources:
    gpu = spec["gpu"]
    if isinstance(gpu, int):
        gpu = {"count": gpu, "kind": [], "memory": "", "slice": ""}
    for field in ("memory", "slice"):
        if gpu[field]:
            raise SpecError(f"resources.gpu.{field}: not supported by engine {engine} yet")
    kinds = tuple(gpu["kind"])
    shm, disk = spec["shm"] or 0, spec["disk"] or 0  # 0: what the engine gives by itself
    return Resources(spec["cpu"], spec["memory"], gpu["count"], kinds, shm, disk)


def _workers(spec: Mapping[str, Any] | None, resources: Mapping[str, Any], engine: str) -> Workers:
    if spec is None:
        return Workers()
    for field in ("min", "via"):
        if spec[field]:
            raise SpecError(f"workers.{field}: not supported by engine {engine} yet")
    processes = spec["processes"]
    if processes == "gpu":
        gpu = resources["gpu"]
        processes = max(1, gpu if isinstance(gpu, int) else gpu["count"])
    return Workers(spec["count"], processes, spec["framework"], spec["launcher"])


def _priority(name: str) -> int:
    if name not in PRIORITIES:
        raise SpecError(f"priority: no {name!r}", hint="one of: " + ", ".join(PRIORITIES))
    return PRIORITIES[name]


def cache_key(run: Run, extra: str) -> str:
    """Hash what a job's result depends on: code, command, params, data, environment, env, outputs.

    Secrets are left out on purpose: a changed password is no changed result.
    """
    spec, pin = run.spec, run.extra["pin"]
    parts = {
        "project": run.project,
        "tree": pin["tree"],
        "command": spec["command"],
        "params": dict(run.params),
        "data": {slot: [data["digest"]] for slot, data in pin["data"].items()},
        "environment": key_of_environment(pin),
        "image": spec["image"] or pin.get("image", ""),
        "env": spec["env"],
        "seed": spec["seed"],
        "working_dir": spec["working_dir"],
        "workers": spec["workers"],
        "outputs": spec["outputs"],
        "extra": extra,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
