"""The options that several verbs share."""

from typing import Annotated

import typer

On = Annotated[str, typer.Option("--on", help="The context to work in.", metavar="CONTEXT")]
Project = Annotated[str, typer.Option("--project", help="The project.", metavar="NAME")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Params = Annotated[
    list[str] | None,
    typer.Option("-p", "--param", help="Set a parameter: NAME=VALUE.", metavar="NAME=VALUE"),
]
