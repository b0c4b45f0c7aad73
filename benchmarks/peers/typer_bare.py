"""A Typer program with two verbs and nothing behind them."""

import typer

app = typer.Typer()


@app.command()
def run(file: str) -> None:
    """Run a work file."""


@app.command()
def show(name: str) -> None:
    """Show a run."""


app()
