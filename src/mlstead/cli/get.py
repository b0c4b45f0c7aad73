"""The verb ``get``: copy what a run has left."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli._options import Json, On, Project, one_place
from mlstead.cli._print import as_json as print_json
from mlstead.platform import Platform

app = typer.Typer()


@app.command()
def get(
    run: Annotated[str, typer.Argument(help="A run's id or name.")],
    output: Annotated[str, typer.Argument(help="One output; all if left out.")] = "",
    place: Annotated[
        str, typer.Argument(metavar="to", help="The folder to copy to; the same as --to.")
    ] = "",
    to: Annotated[
        str, typer.Option("--to", help="The folder to copy to (default: the run's id).")
    ] = "",
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Copy a run's outputs into a folder; what is there already is never overwritten."""
    if output.startswith((".", "/", "~")) and not place:
        output, place = "", output  # no output is called so
    to = one_place(place, to)
    platform = Platform(on=on, project=project)
    found = platform.runs.find(run)
    places = platform.runs.get(found.id, output, Path(to or found.id).expanduser())
    if as_json:
        print_json([str(place) for place in places])
        return
    for one in places:
        print(one)
