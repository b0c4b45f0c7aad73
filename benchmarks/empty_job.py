"""A job that does nothing, from the command to its end, beside TorchX, submitit and Metaflow."""

from __future__ import annotations

from pathlib import Path

from benchmarks._figures import Figure, faster
from benchmarks._measure import Command, alternate, wall
from benchmarks._peers import PROGRAMS, QUIET, binaries
from benchmarks._place import TRUE, Place
from benchmarks.peers.metaflow_line import flow


def figures(place: Place) -> list[Figure]:
    """Time each of them as a whole process; our keeper is warm after the untimed first run."""
    file = place.work_file("empty", TRUE)
    commands = {"mlstead": place.mlstead("run", file.name, cwd=file.parent), **peers(place)}
    samples = alternate(commands, place.repeats)
    medians = {name: wall(taken) for name, taken in samples.items()}
    ours = medians.pop("mlstead")
    return [faster("A job that does nothing, command to exit", ours, medians, 2.0)]


def peers(place: Place) -> dict[str, Command]:
    """Give the peers' command lines, each in a folder of its own."""
    line = place.folder("metaflow")
    (line / "flow.py").write_text(flow(1))
    env = {**QUIET, "METAFLOW_DATASTORE_SYSROOT_LOCAL": str(line)}
    return {
        "TorchX": Command(
            [program("torchx", "torchx"), "run", "--scheduler", "local_cwd", "utils.sh", "true"],
            place.folder("torchx"),
            QUIET,
        ),
        "submitit": Command(
            [program("submitit", "python"), str(PROGRAMS / "submitit_true.py"), "jobs"],
            place.folder("submitit"),
            QUIET,
        ),
        "Metaflow": Command(
            [program("metaflow", "python"), "flow.py", "--no-pylint", "--quiet", "run"], line, env
        ),
    }


def program(peer: str, name: str) -> str:
    """Give the path of a peer's program."""
    return str(Path(binaries(peer)) / name)
