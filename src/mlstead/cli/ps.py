"""The verb ``ps``: list runs."""

from collections.abc import Mapping
from typing import Annotated

import typer

from mlstead.cli._options import Json, On, Project
from mlstead.cli._print import age, clean, span, stale, table
from mlstead.cli._print import as_json as print_json
from mlstead.cli._waiting import waits_for
from mlstead.platform import Platform
from mlstead.records.base import Run, State

app = typer.Typer()


@app.command()
def ps(
    everything: Annotated[bool, typer.Option("-a", "--all", help="Trials and steps, too.")] = False,
    running: Annotated[
        bool, typer.Option("-r", "--running", help="Only what runs or serves.")
    ] = False,
    projects: Annotated[bool, typer.Option("--all-projects", help="Of every project.")] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, help="How many.")] = 50,
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """List runs, newest first, and what serves."""
    platform = Platform(on=on, project=project)
    runs = platform.runs.list(
        all_projects=projects, everything=everything, limit=limit, open_only=running
    )
    stale(platform.runs.stale)
    counts = platform.runs.counts(runs)
    if as_json:
        print_json([
            {
                "id": run.id, "project": run.project, "kind": run.kind, "name": run.name,
                "state": run.state, "reason": run.reason, "detail": run.detail,
                "created": run.created, "started": run.started, "ended": run.ended,
                "parent": run.parent, "key": run.key, "engine": run.engine,
                "serving": bool(run.extra.get("serving")), "children": counts.get(run.id, {}),
            }
            for run in runs
        ])  # fmt: skip
        return
    rows = [
        (run.id, run.kind, _state(run), age(run.created), _took(run), _what(run, counts))
        for run in runs
    ]
    table(("ID", "KIND", "STATE", "AGE", "TOOK", "WHAT"), rows)


def _state(run: Run) -> str:
    return "serving" if run.extra.get("serving") else str(run.state)


def _took(run: Run) -> str:
    return span(run.ended - run.started) if run.ended and run.started else ""


def _what(run: Run, counts: Mapping[str, Mapping[State, int]]) -> str:
    if run.id in counts:
        parts = [f"{number} {state}" for state, number in sorted(counts[run.id].items())]
        return ", ".join(parts)
    if run.extra.get("serving"):
        return str(run.extra.get("url", ""))
    return clean(run.detail) or waits_for(run)
