"""Benches that are programs of their own: runs them and makes figures of their JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks._figures import Figure

ROOT = Path(__file__).parents[1]
SERVING = 0.9


def serving(repeats: int) -> list[Figure]:
    """Requests a second beside FastAPI and MLServer, at each number of clients."""
    rows = _run("serving", "--peers", "fastapi,mlserver", "--repeats", str(repeats))["rows"]
    figures = []
    for clients in sorted({row["clients"] for row in rows}):
        at = {row["target"]: row for row in rows if row["clients"] == clients}
        ours = at.pop("mlstead")
        beside = {name: float(row["rps"]) for name, row in at.items()}
        figures.append(
            Figure(
                f"Predictions, {clients} client{'s' if clients > 1 else ''}",
                float(ours["rps"]),
                "requests/s",
                f"≥ {SERVING}× FastAPI",
                ours["ratio"] >= SERVING,
                beside,
                ours["ratio"],
            )
        )
    return figures


def _run(name: str, *options: str) -> Any:
    """Run one bench as its own program and read its JSON.

    Raises:
        SystemExit: it failed; what it said went to standard error.
    """
    argv = [sys.executable, "-m", f"benchmarks.{name}", "--json", *options]
    done = subprocess.run(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: exit {done.returncode}")
    return json.loads(done.stdout[done.stdout.index("{") :])
