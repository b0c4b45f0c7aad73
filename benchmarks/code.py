"""Submitting an unchanged folder of 10,000 files the second time, beside git's own look at it."""

from __future__ import annotations

from pathlib import Path

from benchmarks._figures import Figure
from benchmarks._measure import Command, alternate, measure, wall
from benchmarks._place import TRUE, Place
from benchmarks.empty_job import COLD

FILES = 10_000
MOST = 0.5


def figures(place: Place) -> list[Figure]:
    """Time ``mlstead run -d`` of a job whose code folder did not change."""
    file = place.work_file("code", TRUE)
    fill(file.parent)
    git = ["git", "--git-dir", str(place.root / "bare"), "--work-tree", str(file.parent)]
    measure(Command([*git, "init", "--quiet"], place.root))
    commands = {
        "mlstead": place.warm("run", "-d", file.name, cwd=file.parent),
        COLD: place.mlstead("run", "-d", file.name, cwd=file.parent),
        "git add": Command([*git, "add", "--all"], file.parent),
    }
    samples = alternate(commands, place.repeats)
    ours, cold = wall(samples["mlstead"]), wall(samples[COLD])
    git_add = wall(samples["git add"])
    title = f"Submitting an unchanged folder of {FILES:,} files again"
    goal = f"< {MOST} s"
    beside = {"git add --all": git_add}
    return [
        Figure(title, ours, "s", goal, ours < MOST, beside, ours / git_add),
        Figure(
            f"{title}, without the warm process",
            cold,
            "s",
            goal,
            cold < MOST,
            beside,
            cold / git_add,
        ),
    ]


def fill(folder: Path) -> None:
    """Write the files, a hundred to a folder."""
    for number in range(FILES):
        file = folder / f"d{number // 100:03}" / f"f{number % 100:02}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"value = {number}\n" * 20)
