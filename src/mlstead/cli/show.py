"""The verb ``show``: all that is known of a run or a service."""

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from mlstead.cli._options import Json, On, Project
from mlstead.cli._print import age, clean, console, figure, size, span, stale, table
from mlstead.cli._print import as_json as print_json
from mlstead.cli._waiting import waits_for
from mlstead.platform import Platform
from mlstead.platform.context import HERE
from mlstead.platform.runs import Details
from mlstead.records.base import Run, State
from mlstead.spec.expressions import as_text

app = typer.Typer()
BEST = 10


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="A run's id or name, or service/NAME.")],
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Show what a run was made from, what happened to it, and what it left."""
    platform = Platform(on=on, project=project)
    if run.startswith("service/"):
        found = platform.services.find(run)
        details = platform.runs.show(found.id)
    else:
        details = platform.runs.show(run)
    stale(platform.runs.stale)
    figures: Any = {}
    if details.run.extra.get("serving"):
        figures = platform.services.figures(details.run)
    if as_json:
        print_json({"details": details, "figures": figures})
        return
    _head(details.run)
    _links(details)
    if details.metrics:
        table(
            ("METRIC", "VALUE", "STEP"),
            [(key, figure(point.value), point.step) for key, point in details.metrics.items()],
        )
    if details.run.kind == "sweep":
        _trials(details)
        _failures(details)
    elif details.children:
        table(
            ("STEP", "STATE", "TOOK", "RUN", "WHAT"), [_step(child) for child in details.children]
        )
    if details.run.kind == "service":
        _service(details.run, figures)
    else:
        _events(details)


def _head(run: Run) -> None:
    state = f"serving at {run.extra['url']}" if run.extra.get("serving") else run.state
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.created))
    took = span((run.ended or time.time()) - run.started) if run.started else ""
    params = ", ".join(f"{key}={as_text(value)}" for key, value in run.params.items())
    here = run.kind == "job" and run.engine in HERE
    environment = "the one mlstead runs in" if here else ""
    rows: list[tuple[str, object]] = [
        ("id", run.id),
        ("kind", run.kind),
        ("state", state),
        ("project", run.project),
        ("created", f"{made} ({age(run.created)} ago)"),
        ("took", took),
        ("why", clean(run.detail)),
        ("waits", clean(waits_for(run).removeprefix("waits ")) if not run.detail else ""),
        ("exit code", run.status.get("exit_code")),
        ("peak memory", _memory(run)),
        ("attempts", run.attempt if run.attempt > 1 else ""),
        ("description", clean(str(run.spec.get("description") or ""))),
        ("labels", clean(", ".join(f"{key}={value}" for key, value in run.labels.items()))),
        ("resources", _resources(run.spec)),
        ("params", clean(params)),
        *[(clean(str(key)), _short(value)) for key, value in run.values.items()],
        ("code", run.code),
        ("environment", run.environment or environment),
        ("image", run.status.get("image")),
        ("on", clean(", ".join(run.status.get("hosts") or ())) if run.engine not in HERE else ""),
        ("cached from", run.cached),
        ("mlflow run", run.mlflow),
    ]
    table(("", ""), [row for row in rows if row[1] not in ("", None)])


def _memory(run: Run) -> str:
    peak, limit = run.status.get("peak_memory"), run.status.get("memory_limit")
    if not peak:
        return ""
    return size(peak) + (f" of {size(limit)}" if limit else "")


def _resources(spec: Mapping[str, Any]) -> str:
    """Write what one worker was given, and how many workers there are."""
    body = spec.get("trial") or spec
    needs, workers = body.get("resources"), body.get("workers") or {}
    if not needs:
        return ""
    gpu = needs["gpu"]
    if isinstance(gpu, Mapping):
        gpu = " ".join(str(one) for one in (gpu["count"], *gpu["kind"]))
    parts = [
        f"cpu {needs['cpu']:g}",
        f"memory {size(needs['memory'])}",
        f"gpu {gpu}" if gpu else "",
    ]
    parts += [f"{key} {size(needs[key])}" for key in ("shm", "disk") if needs.get(key)]
    count = workers.get("count", 1)
    each = f"; {count} workers, each so much" if count > 1 else ""
    return clean(", ".join(part for part in parts if part) + each)


def _short(value: object) -> str:
    return "" if isinstance(value, dict | list) else clean(str(value))


def _links(details: Details) -> None:
    if details.links:
        table(
            ("", "NAME", "KIND", "VERSION", "DIGEST"),
            [
                (link.direction, link.slot, link.kind + (" (partial)" if link.partial else ""),
                 link.ref, link.digest[:16])
                for link in details.links
            ],
        )  # fmt: skip


def _step(child: Run) -> tuple[object, ...]:
    took = span(child.ended - child.started) if child.ended and child.started else ""
    values = ", ".join(f"{key}={value}" for key, value in child.values.items())
    return child.key, str(child.state), took, child.id, clean(values[:60] or child.detail)


def _trials(details: Details) -> None:
    metric = details.run.spec.get("metric") or {}
    sign = -1 if metric.get("goal") == "max" else 1
    counts = ", ".join(f"{number} {state}" for state, number in sorted(details.counts.items()))
    console().print(f"trials: {counts}")
    scored = [
        (child.extra["trial"]["value"], child)
        for child in details.children
        if child.extra.get("trial", {}).get("value") is not None
    ]
    scored.sort(key=lambda pair: sign * pair[0])
    rows = [(child.key, figure(value), child.id, _chosen(child)) for value, child in scored[:BEST]]
    if rows:
        table(("TRIAL", metric.get("name", "VALUE").upper(), "RUN", "PARAMS"), rows)


def _failures(details: Details) -> None:
    failed = [child for child in details.children if child.state in (State.FAILED, State.LOST)]
    rows = [(child.key, str(child.state), child.id, clean(child.detail)) for child in failed]
    if rows:
        table(("TRIAL", "STATE", "RUN", "WHY"), rows[:BEST])
    if len(rows) > BEST:
        console().print(f"and {len(rows) - BEST} more failed")


def _chosen(trial: Run) -> str:
    chosen = trial.extra["trial"].get("chosen", trial.params)
    return clean(", ".join(f"{key}={value}" for key, value in chosen.items()))


def _service(run: Run, figures: Any) -> None:
    traffic = run.extra.get("traffic", {})
    versions = run.extra.get("resolved", {})
    table(
        ("VERSION", "MODEL", "TRAFFIC"),
        [(name, version["ref"], f"{traffic.get(name, 0)} %") for name, version in versions.items()],
    )
    if figures:
        rows = []
        for key in ("requests", "errors", "p50_ms", "p99_ms", "queue", "classes"):
            value = figures.get(key, "")
            shown = (
                ", ".join(f"{k}: {v}" for k, v in value.items())
                if isinstance(value, dict)
                else value
            )
            rows.append((key, shown))
        table(("FIGURE", "VALUE"), rows)


def _events(details: Details) -> None:
    rows = [
        (time.strftime("%H:%M:%S", time.localtime(event.time)), event.attempt or "", event.name,
         clean(str(event.data.get("detail", ""))))
        for event in details.events
    ]  # fmt: skip
    table(("TIME", "TRY", "EVENT", ""), rows)
