"""How things look: tables for people, JSON for programs, times and sizes in words."""

import dataclasses
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "blocked": "red",
    "cancelled": "yellow",
    "skipped": "dim",
    "running": "cyan",
    "starting": "cyan",
    "finishing": "cyan",
}


def stale(why: str) -> None:
    """Warn that what is shown may be old, and why; "" for nothing to warn of."""
    if why:
        print(f"warning: as last known: {clean(why)}", file=sys.stderr)


def as_json(value: Any) -> None:
    """Print a value as JSON; dataclasses become objects, what JSON lacks becomes text."""
    text = json.dumps(plain(value), indent=2, default=str)
    sys.stdout.write(text + "\n")


def plain(value: Any) -> Any:
    """Turn dataclasses and collections into what ``json`` knows."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def console() -> Console:
    """Give the console of this process; text from users is never read as markup."""
    return Console(markup=False, highlight=False, soft_wrap=False)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table without frames; numbers and states have their colours."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold", no_wrap=column in ("ID", "STATE", "AGE"))
    for row in rows:
        grid.add_row(*[_cell(value) for value in row])
    out = console()
    if not out.is_terminal:
        out.width = 200
    out.print(grid)


def _cell(value: object) -> Text:
    text = "" if value is None else str(value)
    return Text(clean(text), style=COLOURS.get(text, ""))


def clean(text: str) -> str:
    """Take control characters out of text that users wrote."""
    return "".join(char if char.isprintable() or char == "\n" else "�" for char in text)


def age(seconds: float | None) -> str:
    """Say how long ago an epoch time was."""
    return "" if not seconds else span(time.time() - seconds)


def span(seconds: float | None) -> str:
    """Write a length of time: 0.4s, 12s, 5m03s, 2h10m, 3d04h; 0.0s if the clock was set back."""
    if seconds is None:
        return ""
    seconds = max(0.0, seconds)
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    for unit, below, size in (("s", 60, 1), ("m", 3600, 60), ("h", 86400, 3600)):
        if whole < below:
            rest = whole % size // (size // 60) if size > 1 else 0
            tail = {"m": f"{rest:02d}s", "h": f"{rest:02d}m"}.get(unit, "")
            return f"{whole // size}{unit}{tail}"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def size(count: int | None) -> str:
    """Write bytes with a binary unit."""
    if count is None:
        return ""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def figure(value: float) -> str:
    """Write a metric's value shortly."""
    return f"{value:.6g}"
