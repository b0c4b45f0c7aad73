"""How plans, progress and states of a site look."""

import sys
import time
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from mlstead.cli._print import clean, console, span, table
from mlstead.platform.sites import Event, Planned, Status

STATE_COLOURS = {"ok": "green", "drift": "yellow", "not ready": "yellow", "unreachable": "red"}


def as_data(planned: Planned) -> dict[str, Any]:
    """Give a plan as data; secrets stand in it by their names."""
    return {
        "changes": len(planned.steps),
        "steps": [
            {
                "step": it.key,
                "title": it.title,
                "target": it.target,
                "component": it.component,
                "action": it.action,
                "reasons": list(it.reasons),
                "arguments": texts(it.arguments),
            }
            for it in planned.steps
        ],
        "findings": list(planned.findings),
        "unreachable": {name: str(error) for name, error in planned.problems.items()},
        "ports": list(planned.ports),
    }


def texts(value: Any) -> Any:
    """Make data of a step's arguments: what JSON cannot say becomes text."""
    if isinstance(value, dict):
        return {str(key): texts(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [texts(item) for item in value]
    return value if isinstance(value, str | int | float | bool) or value is None else str(value)


def plan(planned: Planned, *, ports: bool) -> None:
    """Print a plan for people."""
    out = console()
    for error in planned.problems.values():
        words = f"{error} ({error.hint})" if error.hint else str(error)
        out.print(clean(words), style="red")
    for finding in planned.findings:
        words = f"{finding.target}: {finding.message}"
        words += f" ({finding.hint})" if finding.hint else ""
        out.print(clean(words), style="red" if finding.stops else "yellow")
    if planned.steps:
        rows = [(it.target, it.component, it.title, _reasons(it.reasons)) for it in planned.steps]
        table(("TARGET", "PART", "STEP", "WHY"), rows)
        out.print(f"{len(planned.steps)} steps to do: mlstead site apply")
    elif not planned.problems:
        out.print("everything is as described: nothing to do")
    if ports:
        out.print()
        listening = [
            (it.target, f"{it.number}/{it.protocol}", it.owner, it.sources, it.login)
            for it in planned.ports
        ]
        table(("MACHINE", "PORT", "PROGRAM", "REACHED FROM", "WHO MAY"), listening)


def _reasons(reasons: Iterable[str]) -> str:
    found = list(reasons)
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return "; ".join(found[:3]) + more


def status(found: Status) -> None:
    """Print the state of a site for people."""
    rows = []
    for it in found.machines:
        load = ", ".join(f"{name} {value:.0f}%" for name, value in (it.pressure or {}).items())
        days = "" if it.certificates is None else f"{it.certificates}d"
        rows.append((it.name, it.address, it.state, it.node, it.kubernetes, it.system,
                     _share(it.memory), _share(it.disk), load, days))  # fmt: skip
    columns = ("MACHINE", "ADDRESS", "STATE", "NODE", "KUBELET", "SYSTEM", "MEMORY", "DISK",
               "PRESSURE", "CERTIFICATES")  # fmt: skip
    table(columns, rows)
    out = console()
    if found.apps:
        out.print()
        table(
            ("APP", "STATE", "WHY"), [(it.name, it.state, _reasons(it.words)) for it in found.apps]
        )
    for it in found.machines:
        for word in it.words:
            out.print(clean(f"{it.name}: {word}"), style="yellow")
    for name in found.strangers:
        out.print(f"{name}: a node of the cluster, but not in the site file", style="yellow")


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


class Watch:
    """Shows steps while they are done; without a terminal a line for each that ends.

    Use it in a ``with``.
    """

    def __init__(self) -> None:
        self._out = Console(stderr=True, markup=False, highlight=False)
        self._live = Live(console=self._out, refresh_per_second=8, transient=True)
        self._began = time.monotonic()
        self._title, self._step = "", 0.0
        self._tasks: dict[str, str] = {}

    def __enter__(self) -> "Watch":
        if self._out.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._out.is_terminal:
            self._live.stop()

    def take(self, event: Event) -> None:
        """Show one event."""
        if event.kind == "task":
            for name in event.targets:
                self._tasks[name] = event.title
        elif event.state == "began":
            self._title, self._step, self._tasks = event.title, time.monotonic(), {}
            if not self._out.is_terminal:
                print(f"{event.title} ({', '.join(event.targets)}) …", file=sys.stderr, flush=True)
        else:
            took = span(time.monotonic() - self._step)
            mark, style = ("done", "green") if event.state == "done" else ("FAILED", "red")
            self._out.print(
                Text.assemble((f"{mark:<7}", style), f"{event.title}", (f"  {took}", "dim"))
            )
            self._title = ""
        if self._out.is_terminal:
            self._live.update(self._picture())

    def _picture(self) -> Table:
        grid = Table(box=None, pad_edge=False, show_header=False)
        if self._title:
            grid.add_row(Text(self._title, style="bold"), span(time.monotonic() - self._began))
            for name, task in self._tasks.items():
                grid.add_row(Text(f"  {name}", style="cyan"), Text(clean(task), style="dim"))
        return grid
