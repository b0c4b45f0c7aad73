"""A job that does nothing, from the command to its end, beside TorchX, submitit and Metaflow."""

from __future__ import annotations

from pathlib import Path

from benchmarks._figures import Figure, faster
from benchmarks._measure import Command, alternate, wall
from benchmarks._peers import PROGRAMS, QUIET, binaries
from benchmarks._place import TRUE, Place
from benchmarks.peers.metaflow_line import flow

COLD = "mlstead, cold"


def figures(place: Place) -> list[Figure]:
    """Time each as a whole process; keeper and warm process are there after the untimed runs."""
    file = place.work_file("empty", TRUE)
    ours = {
        "mlstead": place.warm("run", file.name, cwd=file.parent),
        COLD: place.mlstead("run", file.name, cwd=file.parent),
    }
    samples = alternate({**ours, **peers(place)}, place.repeats)
    medians = {name: wall(taken) for name, taken in samples.items()}
    warm, cold = medians.pop("mlstead"), medians.pop(COLD)
    title = "A job that does nothing, command to exit"
    return [
        faster(title, warm, medians, 2.0),
        faster(f"{title}, without the warm process", cold, medians, 2.0),
    ]


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
