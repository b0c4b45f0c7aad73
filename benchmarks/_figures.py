"""One figure beside its peers, and the table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN = "<!-- figures: make bench ARGS=--readme writes what is between these two lines -->"
END = "<!-- end of figures -->"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure: ours, what stands beside it, and whether the goal is reached."""

    title: str
    ours: float
    unit: str
    goal: str
    reached: bool
    beside: dict[str, float] = field(default_factory=dict)
    ratio: float | None = None

    def row(self) -> str:
        """Give the line of the table."""
        peers = ", ".join(f"{name} {number(v)} {self.unit}" for name, v in self.beside.items())
        cells = (
            self.title,
            f"{number(self.ours)} {self.unit}",
            peers or "-",
            "-" if self.ratio is None else f"{number(self.ratio)}×",
            self.goal,
            "yes" if self.reached else "**no**",
        )
        return "| " + " | ".join(cells) + " |"


def faster(title: str, ours: float, beside: dict[str, float], least: float) -> Figure:
    """Make the figure of a duration in seconds, to be ``least`` times below the best peer's."""
    ratio = min(beside.values()) / ours
    goal = f"≥ {least:g}× faster than the best"
    return Figure(title, ours, "s", goal, ratio >= least, beside, ratio)


def number(value: float) -> str:
    """Write a number with three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(figures: Sequence[Figure], about: str) -> str:
    """Give the Markdown table with the line that says how it was made."""
    head = (
        "| Figure | mlstead | beside it | ratio | goal | reached |",
        "|---|---|---|---|---|---|",
    )
    return "\n".join((about, "", *head, *(figure.row() for figure in figures)))


def write_between_marks(readme: Path, text: str, marks: tuple[str, str] = (BEGIN, END)) -> None:
    """Replace what stands between two marks of a README.

    Raises:
        SystemExit: the marks are not there.
    """
    whole = readme.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{readme}: the two marks around the figures are missing")
    readme.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
