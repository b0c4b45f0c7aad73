"""The verb ``schema``: print the JSON Schema of work and site files."""

import json
from typing import Annotated

import typer

from mlstead.site.options import site_schema
from mlstead.spec.schema import json_schema

app = typer.Typer()


@app.command()
def schema(
    kind: Annotated[
        str,
        typer.Argument(
            help="job, sweep, pipeline, service or notebook; all of them if left out. Or site."
        ),
    ] = "",
) -> None:
    """Print the JSON Schema that editors use to complete and check work and site files."""
    found = site_schema() if kind == "site" else json_schema(kind or None)
    print(json.dumps(found, indent=2))
