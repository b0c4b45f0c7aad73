"""The verb ``get``: copy what a run has left."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli._options import Json, On, Project
from mlstead.cli._print import as_json as print_json
from mlstead.platform import Platform

app = typer.Typer()


@app.command()
def get(
    run: Annotated[str, typer.Argument(help="A run's id or name.")],
    output: Annotated[str, typer.Argument(help="One output; all if left out.")] = "",
    to: Annotated[
        Path | None, typer.Option("--to", help="The folder to copy to (default: the run's id).")
    ] = None,
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Copy a run's outputs into a folder; what is there already is never overwritten."""
    platform = Platform(on=on, project=project)
    found = platform.runs.find(run)
    places = platform.runs.get(found.id, output, to or Path(found.id))
    if as_json:
        print_json([str(place) for place in places])
        return
    for place in places:
        print(place)
