"""The verb ``run``: submit a work file and follow it."""

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlstead.cli._options import Json, On, Params, Project
from mlstead.errors import RunFailedError, UserError
from mlstead.platform import Platform
from mlstead.records.base import Run, State
from mlstead.spec.load import load

app = typer.Typer()


@app.command()
def run(
    file: Annotated[Path | None, typer.Argument(help="The work file.", show_default=False)] = None,
    param: Params = None,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Do not wait for the end.")
    ] = False,
    on: On = "",
    project: Project = "",
    token: Annotated[
        str, typer.Option("--token", help="The same token never makes a second run.")
    ] = "",
    resume: Annotated[
        str, typer.Option("--resume", metavar="RUN", help="Go on with a sweep or pipeline.")
    ] = "",
    trials: Annotated[
        int, typer.Option("--trials", min=0, help="With --resume: that many trials more.")
    ] = 0,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a machine that is large enough.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a work file and follow it to its end; Ctrl-C leaves it running."""
    platform = Platform(on=on, project=project)
    if resume:
        made = platform.runs.resume(resume, trials=trials)
    elif file is None:
        raise UserError("which work file?", hint="mlstead run FILE")
    else:
        made = platform.runs.submit(
            load(file, overrides=param or ()), token=token, attended=not detach, wait=wait
        )
    if detach:
        _tell(made, as_json)
        return
    try:
        ended = _follow(platform, made, quiet=as_json)
    except KeyboardInterrupt:
        print(
            f"\n{made.id} goes on; mlstead logs -f {made.id}, mlstead stop {made.id}",
            file=sys.stderr,
        )
        raise
    if as_json:
        _json(ended)
    if ended.state not in (State.SUCCEEDED, State.SKIPPED):
        raise RunFailedError(sentence(ended), hint=f"mlstead show {ended.id}")
    if not as_json:
        print(sentence(ended), file=sys.stderr)


def _follow(platform: Platform, made: Run, *, quiet: bool) -> Run:
    if made.kind == "job":
        stream = sys.stderr.buffer if quiet else sys.stdout.buffer

        def write(chunk: bytes) -> None:
            stream.write(chunk)
            stream.flush()

        return platform.runs.follow(made.id, write=write)
    if quiet:
        return platform.runs.follow(made.id)
    # loaded only now: a plain job must not pay for tables and live displays
    progress = importlib.import_module("mlstead.cli._progress")
    ended: Run = progress.follow(platform, made)
    return ended


def sentence(run: Run) -> str:
    """Say in one line how a run ended."""
    took = f" in {max(0.0, run.ended - run.created):.1f} s" if run.ended else ""
    why = f": {run.detail}" if run.detail else ""
    return f"{run.kind} {run.id} {run.state}{took}{why}"


def _tell(run: Run, as_json: bool) -> None:
    if as_json:
        _json(run)
    else:
        print(run.id)


def _json(run: Run) -> None:
    fields: dict[str, Any] = {
        name: getattr(run, name)
        for name in (
            "id", "project", "kind", "name", "engine", "state", "created", "started", "ended",
            "reason", "detail", "attempt", "params", "values", "status", "code", "environment",
        )
    }  # fmt: skip
    sys.stdout.write(json.dumps(fields, indent=2, default=str) + "\n")
