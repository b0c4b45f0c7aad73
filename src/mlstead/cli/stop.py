"""The verb ``stop``: stop a run or a service."""

from typing import Annotated

import typer

from mlstead.cli._options import Json, On, Project
from mlstead.cli._print import as_json as print_json
from mlstead.platform import Platform
from mlstead.records.base import State

app = typer.Typer()


@app.command()
def stop(
    run: Annotated[str, typer.Argument(help="A run's id or name, or service/NAME.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until it has ended.")] = False,
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Ask it to end (TERM), and end it after its grace (KILL), with all it started."""
    platform = Platform(on=on, project=project)
    stopped = platform.runs.stop(run)
    if wait and not stopped.state.final:
        stopped = platform.runs.follow(stopped.id)
    if as_json:
        print_json({"id": stopped.id, "state": stopped.state})
    elif stopped.kind == "service" and stopped.stop and stopped.state is State.SUCCEEDED:
        print(f"service {stopped.name} stopped")
    else:
        print(f"{stopped.id} {'is ' + stopped.state if stopped.state.final else 'will stop'}")
