"""``mlstead --help`` beside the help of a bare Typer program."""

from __future__ import annotations

import sys

from benchmarks._figures import Figure
from benchmarks._measure import Command, alternate, wall
from benchmarks._peers import PROGRAMS
from benchmarks._place import Place

MOST = 1.5


def figures(place: Place) -> list[Figure]:
    """Time both with the same Python."""
    commands = {
        "mlstead": place.mlstead("--help"),
        "Typer": Command(
            [sys.executable, str(PROGRAMS / "typer_bare.py"), "--help"], place.root, {}
        ),
    }
    samples = alternate(commands, 2 * place.repeats)
    ours, typer = wall(samples["mlstead"]), wall(samples["Typer"])
    ratio = ours / typer
    goal = f"≤ {MOST}× a bare Typer program"
    title = "`mlstead --help`"
    return [Figure(title, ours, "s", goal, ratio <= MOST, {"Typer": typer}, ratio)]
