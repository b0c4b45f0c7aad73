"""The verb ``plan``: say what a work file would do."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli._options import Json, On, Params, Project
from mlstead.cli._print import as_json as print_json
from mlstead.cli._print import console, size, table
from mlstead.platform import Platform
from mlstead.platform.context import HERE
from mlstead.records.base import Run
from mlstead.spec.expressions import as_text
from mlstead.spec.graph import needs_of
from mlstead.spec.load import load
from mlstead.spec.located import located
from mlstead.spec.record import from_record
from mlstead.spec.work import Pipeline, ServiceStep, Step, SweepStep

app = typer.Typer()


@app.command()
def plan(
    file: Annotated[Path, typer.Argument(help="The work file.")],
    param: Params = None,
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Check a work file, pin what it names, and say what would be sent where; send nothing."""
    platform = Platform(on=on, project=project)
    loaded = load(file, overrides=param or ())
    with located(loaded):
        run = platform.runs.plan(loaded)
    if as_json:
        print_json(
            {
                "kind": run.kind,
                "name": run.name,
                "spec": run.spec,
                "request": run.request,
                "extra": run.extra,
            }
        )
        return
    out = console()
    out.print(f"{run.kind} {run.name} on {run.engine}, project {run.project}")
    if run.code:
        out.print(f"code    {run.code}")
    if run.kind == "job":
        _job(run)
    elif run.kind == "pipeline":
        _pipeline(run)
    else:
        table(("FIELD", "VALUE"), [(key, value) for key, value in run.spec.items() if value])


def _job(run: Run) -> None:
    needs = run.spec["resources"]
    usual = "the one mlstead runs in" if run.engine in HERE else ""
    rows: list[tuple[str, object]] = [
        ("command", " ".join(run.spec["command"])),
        ("params", ", ".join(f"{key}={as_text(value)}" for key, value in run.params.items())),
        ("cpu", needs["cpu"]),
        ("memory", size(needs["memory"])),
        ("gpu", needs["gpu"]),
        ("image", run.request.get("image", "")),
        (
            "environment",
            run.environment or usual,
        ),
    ]
    for slot, data in run.extra["pin"]["data"].items():
        rows.append((f"data {slot}", f"{data['ref']} ({data['digest'][:12]})"))
    for slot, output in run.spec["outputs"].items():
        rows.append((f"output {slot}", f"{output['kind']} {output['name']}".strip()))
    shown = [row for row in rows if row[1] or row[0] not in ("image", "environment")]
    table(("FIELD", "VALUE"), shown)


def _pipeline(run: Run) -> None:
    spec = from_record(run.spec)
    assert isinstance(spec, Pipeline)
    rows: list[tuple[object, ...]] = []
    for name, step in {**spec.steps, **spec.finally_}.items():
        last = "all others" if name in spec.finally_ else ""
        runs = "once" if step.foreach is None else "each item"
        after = ", ".join(sorted(needs_of(step))) or last
        rows.append((name, step.kind, after, runs, _what(step)[:80]))
    table(("STEP", "KIND", "AFTER", "RUNS", "WHAT"), rows)


def _what(step: Step) -> str:
    if isinstance(step, ServiceStep):
        model = step.model
        return model if isinstance(model, str) else f"{model.step}.{model.output}"
    command = step.trial.command if isinstance(step, SweepStep) else step.command
    return (command if isinstance(command, str) else " ".join(command)).strip()
