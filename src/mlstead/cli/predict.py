"""The verb ``predict``: ask a service."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mlstead.cli._options import Json, On, Project
from mlstead.platform import Platform

app = typer.Typer()


@app.command()
def predict(
    service: Annotated[str, typer.Argument(help="The service's name.")],
    request: Annotated[Path, typer.Argument(help="A file with an Open Inference request.")],
    version: Annotated[str, typer.Option("--version", help="Ask this version only.")] = "",
    on: On = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Send an Open Inference Protocol request and print the answer."""
    platform = Platform(on=on, project=project)
    answer = platform.services.predict(service, request, version)
    if as_json:
        print(json.dumps(answer, indent=2))
        return
    print(f"{answer.get('model_name')} {answer.get('model_version', '')}".rstrip())
    for output in answer.get("outputs", []):
        print(f"{output['name']} {output['datatype']} {output['shape']}: {output['data']}")
