"""The hidden verb ``drive``: what mlstead starts in the background to move open runs on."""

from typing import Annotated

import typer

from mlstead.errors import UserError
from mlstead.platform import Platform

app = typer.Typer()


@app.command()
def drive(
    role: Annotated[
        str, typer.Option("--role", help="drive, or track (copy to MLflow).")
    ] = "drive",
) -> None:
    """Drive open runs until none is left."""
    platform = Platform()
    if role == "drive":
        platform.drive()
    elif role == "track":
        platform.track()
    else:
        raise UserError(f"no role {role!r}", hint="drive or track")
