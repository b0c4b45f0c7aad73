"""The verb ``run``: submit a work file and follow it."""

import contextlib
import importlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mlstead.cli._options import Json, On, Params, Project
from mlstead.cli._waiting import waits_for
from mlstead.errors import RunFailedError, UserError
from mlstead.platform import Platform
from mlstead.records.base import Run, State
from mlstead.spec.load import load
from mlstead.spec.located import located

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
    with _handing_over():
        if resume:
            if file is not None or param or wait:
                raise UserError("--resume goes on with what was submitted: no FILE, -p or --wait")
            made = platform.runs.resume(resume, trials=trials)
        elif file is None:
            raise UserError("which work file?", hint="mlstead run FILE")
        elif trials:
            raise UserError(
                "--trials needs --resume", hint="trials: in the work file says how many"
            )
        else:
            loaded = load(file, overrides=param or ())
            with located(loaded):
                made = platform.runs.submit(loaded, token=token, attended=not detach, wait=wait)
        if detach:
            _tell(made, as_json)
            return
        ended = _followed(platform, made, quiet=as_json)
    if as_json:
        _json(ended)
    if ended.state not in (State.SUCCEEDED, State.SKIPPED):
        raise RunFailedError(sentence(ended), hint=f"mlstead show {ended.id}")
    if not as_json:
        print(sentence(ended), file=sys.stderr)


def _followed(platform: Platform, made: Run, *, quiet: bool) -> Run:
    """Follow a run to its end; whatever ends us first, the run is handed over."""
    try:
        return _follow(platform, made, quiet=quiet)
    except (KeyboardInterrupt, SystemExit) as error:
        platform.runs.leave(made.id)
        if isinstance(error, KeyboardInterrupt):
            print(
                f"\n{made.id} goes on; mlstead logs -f {made.id}, mlstead stop {made.id}",
                file=sys.stderr,
            )
        raise


@contextlib.contextmanager
def _handing_over() -> Iterator[None]:
    """Let a closed terminal or a polite kill end us as Ctrl-C does: what runs is handed over."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    ours = [it for it in (signal.SIGHUP, signal.SIGTERM) if signal.getsignal(it) is signal.SIG_DFL]
    for one in ours:
        signal.signal(one, leave)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, signal.SIG_DFL)


def _follow(platform: Platform, made: Run, *, quiet: bool) -> Run:
    if made.kind == "job":
        stream = sys.stderr.buffer if quiet else sys.stdout.buffer

        def write(chunk: bytes) -> None:
            stream.write(chunk)
            stream.flush()

        return platform.runs.follow(made.id, write=write, changed=_Waiting())
    if quiet:
        return platform.runs.follow(made.id)
    # loaded only now: a plain job must not pay for tables and live displays
    progress = importlib.import_module("mlstead.cli._progress")
    ended: Run = progress.follow(platform, made)
    return ended


class _Waiting:
    """Tells a person once, after a second, that a job waits and for what."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._told = False

    def __call__(self, run: Run) -> None:
        waits = run.state in (State.QUEUED, State.PENDING)
        if waits and not self._told and time.monotonic() - self._since > 1.0:
            self._told = True
            print(f"{run.id} {waits_for(run)}", file=sys.stderr, flush=True)


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
