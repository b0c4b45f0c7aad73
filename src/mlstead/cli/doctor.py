"""The verb ``doctor``: what the place where work goes lacks."""

from typing import Annotated

import typer

from mlstead.cli._options import Json, On
from mlstead.cli._print import as_json as print_json
from mlstead.cli._print import clean, table
from mlstead.platform import Platform
from mlstead.platform import doctor as looking
from mlstead.platform.context import engine_of

app = typer.Typer()


@app.command()
def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Run a task that does nothing, too, and forget it.")
    ] = False,
    on: On = "",
    as_json: Json = False,
) -> None:
    """Check the place where work goes, and say what is missing.

    The exit code is 2 if something is missing without which work fails.
    """
    platform = Platform(on=on)
    engine = engine_of(platform.home, platform.context)
    try:
        found = list(looking.checks(engine, deep=deep))
    finally:
        engine.close()
    missing = [check for check in found if check.state == "missing"]
    if as_json:
        print_json({"context": platform.context.name, "checks": found})
    else:
        rows: list[tuple[str, str, str]] = []
        for check in found:
            rows.append((check.name, check.state, clean(check.detail)))
            if check.hint and check.state != "ok":
                rows.append(("", "", f"hint: {clean(check.hint)}"))
        table(("CHECK", "STATE", "WHAT"), rows)
    if missing:
        raise typer.Exit(2)
