"""The verb ``logs``: print what a run has written."""

import sys
from typing import Annotated

import typer

from mlstead.cli._options import On, Project
from mlstead.platform import Platform

app = typer.Typer()


@app.command()
def logs(
    run: Annotated[str, typer.Argument(help="A run's id or name, or service/NAME.")],
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on until the run ends.")
    ] = False,
    rank: Annotated[
        int | None, typer.Option("--rank", min=0, help="Only this worker's output.")
    ] = None,
    on: On = "",
    project: Project = "",
) -> None:
    """Print the output of all attempts, in order, exactly as it was written."""
    platform = Platform(on=on, project=project)
    for chunk in platform.runs.logs(run, rank=rank, follow=follow):
        sys.stdout.buffer.write(chunk)
        if follow:
            sys.stdout.buffer.flush()
    sys.stdout.buffer.flush()
