"""The live display of a sweep, pipeline or service while it runs."""

import sys
import time

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mlstead.cli._print import COLOURS, clean, figure, span
from mlstead.platform import Platform
from mlstead.records.base import Run, State

SHOWN = 24


def follow(platform: Platform, run: Run) -> Run:
    """Show a run's children until it ends; without a terminal, print a line per change."""
    console = Console(stderr=True, markup=False, highlight=False)
    if not console.is_terminal:
        return _plain(platform, run)
    with Live(console=console, refresh_per_second=8, transient=False) as live:

        def changed(now: Run) -> None:
            live.update(_picture(platform, now))

        return platform.runs.follow(run.id, changed=changed)


def _plain(platform: Platform, run: Run) -> Run:
    seen: dict[str, State] = {}
    told = [""]

    def changed(now: Run) -> None:
        for child in platform.runs.children(now.id):
            if seen.get(child.id) is not child.state:
                seen[child.id] = child.state
                detail = f"  {clean(child.detail)}" if child.detail else ""
                print(f"{child.key:<24} {child.state}{detail}", file=sys.stderr, flush=True)
        if not now.state.final and now.detail not in ("", told[-1]):
            told.append(now.detail)
            print(clean(now.detail), file=sys.stderr, flush=True)

    return platform.runs.follow(run.id, changed=changed)


def _picture(platform: Platform, run: Run) -> Group:
    children = list(platform.runs.children(run.id))
    done = sum(1 for child in children if child.state.final)
    took = (run.ended or time.time()) - run.created
    head = Text.assemble(
        (f"{run.kind} {run.id}  ", "bold"),
        (str(run.state), COLOURS.get(str(run.state), "")),
        f"  {done}/{len(children)} ended  {span(took)}",
    )
    rows: list[Text | Table | ProgressBar] = [head]
    if run.detail and not run.state.final:
        rows.append(Text(f"  {clean(run.detail)}", style="dim"))
    if run.kind == "sweep":
        total = int(run.spec.get("trials") or len(run.spec["search"]["points"]) or len(children))
        rows.append(ProgressBar(total=max(1, total), completed=min(done, total), width=60))
        children = [child for child in children if not child.state.final] or children
    grid = Table(box=None, pad_edge=False, show_header=False)
    for child in children[-SHOWN:]:
        grid.add_row(*_row(child))
    rows.append(grid)
    return Group(*rows)


def _row(child: Run) -> tuple[Text, Text, Text, Text]:
    state = str(child.state)
    begun = child.started or child.created
    took = span((child.ended or time.time()) - begun) if child.started or child.ended else ""
    values = "  ".join(
        f"{clean(str(key))}={figure(value) if isinstance(value, float) else clean(str(value))}"
        for key, value in list(child.values.items())[:3]
        if not isinstance(value, dict | list)
    )
    return (
        Text(f"  {child.key}"),
        Text(state + (" (cached)" if child.cached else ""), style=COLOURS.get(state, "")),
        Text(took, style="dim"),
        Text(values or clean(child.detail), style="" if values else "dim"),
    )
