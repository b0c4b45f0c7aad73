"""One more step in a pipeline: 50 steps of ``true`` less 5, divided by 45, beside two peers."""

from __future__ import annotations

import re
import statistics
from itertools import pairwise

from benchmarks._figures import Figure
from benchmarks._measure import Command, Sample, alternate, wall
from benchmarks._peers import PROGRAMS, QUIET
from benchmarks._place import Place
from benchmarks.empty_job import program
from benchmarks.peers.metaflow_line import flow

FEW, MANY = 5, 50
METAFLOW, PREFECT = 5.0, 3.0


def figures(place: Place) -> list[Figure]:
    """Time lines of few and many steps; Prefect times itself within a flow, its start varies."""
    commands = {}
    for steps in (FEW, MANY):
        file = place.work_file(f"line{steps}", line(steps))
        commands[f"mlstead {steps}"] = place.mlstead("run", file.name, cwd=file.parent)
        commands[f"Metaflow {steps}"] = metaflow(place, steps)
    script = str(PROGRAMS / "prefect_line.py")
    commands["Prefect"] = Command(
        [program("prefect", "python"), script, str(FEW), str(MANY)],
        place.folder("prefect"),
        {**QUIET, "PREFECT_HOME": str(place.folder("prefect"))},
    )
    samples = alternate(commands, place.repeats)
    ours = a_step(samples, "mlstead")
    slow, quick = a_step(samples, "Metaflow"), prefect_step(samples["Prefect"])
    ahead, behind = slow / ours, ours / quick
    title = "One more pipeline step (`true`)"
    goals = (f"≥ {METAFLOW:g}× faster than Metaflow", f"≤ {PREFECT:g}× Prefect's in-process task")
    return [
        Figure(title, ours, "s", goals[0], ahead >= METAFLOW, {"Metaflow": slow}, ahead),
        Figure(title, ours, "s", goals[1], behind <= PREFECT, {"Prefect": quick}, behind),
    ]


def line(steps: int) -> dict[str, object]:
    """Give a pipeline whose steps run one after another."""
    names = [f"s{number}" for number in range(steps)]
    body: dict[str, dict[str, object]] = {name: {"command": ["true"]} for name in names}
    for before, after in pairwise(names):
        body[after]["needs"] = [before]
    return {"mlstead": 1, "kind": "pipeline", "name": "line", "steps": body}


def metaflow(place: Place, steps: int) -> Command:
    """Give the same line as a Metaflow flow."""
    folder = place.folder(f"metaflow{steps}")
    (folder / "flow.py").write_text(flow(steps))
    env = {**QUIET, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(folder)}
    argv = [program("metaflow", "python"), "flow.py", "--no-pylint", "--quiet", "run"]
    return Command([*argv, "--max-workers", "2"], folder, env)


def a_step(samples: dict[str, list[Sample]], name: str) -> float:
    """Give the seconds of one more step, from the medians."""
    return (wall(samples[f"{name} {MANY}"]) - wall(samples[f"{name} {FEW}"])) / (MANY - FEW)


def prefect_step(samples: list[Sample]) -> float:
    """Give the seconds of one more Prefect task, as its program told them."""
    told = [re.search(r"STEP ([\d.]+)", sample.output) for sample in samples]
    return statistics.median(float(found[1]) for found in told if found)
