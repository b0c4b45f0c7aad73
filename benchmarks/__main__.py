"""The command behind make bench: runs the benches and prints one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    _standalone,
    code,
    data_add,
    empty_job,
    help,
    listing,
    metrics,
    pipeline_step,
    sweep,
)
from benchmarks._figures import Figure, table, write_between_marks
from benchmarks._measure import progress
from benchmarks._peers import pins
from benchmarks._place import Place, place

README = Path(__file__).parents[1] / "README.md"
# In the order of the table.
IN_PLACE: dict[str, Callable[[Place], list[Figure]]] = {
    "empty_job": empty_job.figures,
    "help": help.figures,
    "pipeline_step": pipeline_step.figures,
    "sweep": sweep.figures,
    "listing": listing.figures,
    "code": code.figures,
    "data_add": data_add.figures,
    "metrics": metrics.figures,
}
PROGRAMS: dict[str, Callable[[int], list[Figure]]] = {"serving": _standalone.serving}


def main() -> int:
    """Run the chosen benches; exit 1 if one of them could not be measured."""
    # asked to stop, it still ends what it started
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    arguments = parse()
    figures: list[Figure] = []
    failed = []
    for name in arguments.only or [*IN_PLACE, *PROGRAMS]:
        progress(f"== {name}")
        try:
            figures += run(name, arguments.repeats)
        except SystemExit as error:
            if error.code == "stopped":
                raise
            failed.append(f"{name}: {error}")
            progress(f"{name} could not be measured: {error}")
    about = conditions(arguments.repeats)
    text = table(figures, about)
    print(text)
    if arguments.json:
        told = {"about": about, "figures": [asdict(figure) for figure in figures]}
        arguments.json.write_text(json.dumps(told, indent=1))
    if arguments.readme:
        write_between_marks(README, text)
    for line in failed:
        print(f"\nnot measured: {line}", file=sys.stderr)
    return 1 if failed else 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    known = [*IN_PLACE, *PROGRAMS]
    parser.add_argument("--only", action="append", choices=known, metavar="NAME", help=str(known))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="the figures as JSON, too")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    return parser.parse_args()


def run(name: str, repeats: int) -> list[Figure]:
    """Run one bench, in a place of its own."""
    if name in PROGRAMS:
        return PROGRAMS[name](repeats)
    with place(repeats) as where:
        return IN_PLACE[name](where)


def conditions(repeats: int) -> str:
    """Say on what, when and beside which versions the figures were taken."""
    cores = len(os.sched_getaffinity(0))
    day = datetime.now(UTC).date().isoformat()
    versions = ", ".join(words[0].replace("==", " ") for words in pins().values())
    return (
        f"Medians of {repeats} repeats, alternating, whole processes; {cores} cores, "
        f"Python {platform.python_version()}, {day}. Peers: {versions}."
    )


if __name__ == "__main__":
    sys.exit(main())
