"""The verb ``fix``: rewrite an older work file."""

from pathlib import Path
from typing import Annotated

import typer

from mlstead.errors import UserError
from mlstead.spec.fix import fix as fix_text

app = typer.Typer()


@app.command()
def fix(file: Annotated[Path, typer.Argument(help="The work file.")]) -> None:
    """Bring a work file up to today's version, in place."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from error
    fixed = fix_text(text)
    if fixed == text:
        print(f"{file} is up to date")
        return
    aside = file.with_name(f".{file.name}.new")
    aside.write_text(fixed, encoding="utf-8")
    aside.replace(file)
    print(f"{file} was rewritten")
