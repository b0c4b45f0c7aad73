"""The command behind make bench-site: a site on hosts of a lab, from nothing and back."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.machines import given
from tests.machines.lab import trees
from tests.machines.lab.lab import SUBNET, Lab
from tests.machines.site_door import Reached, SiteDoor, kubectl, ready

from benchmarks._crowd import crowd
from benchmarks._figures import Figure, table, write_between_marks
from benchmarks._measure import progress

README = Path(__file__).parents[1] / "README.md"
MARKS = (
    "<!-- figures of a site: make bench-site ARGS=--readme writes what is between these lines -->",
    "<!-- end of figures of a site -->",
)
NAMES = ("h1", "h2", "h3")
IMAGE = "docker.io/local/busybox:1"
# What others publish, not measured here: time, lines for three machines, and how that was counted.
PUBLISHED = (
    ("[k3sup](https://github.com/alexellis/k3sup)", "1 min", "3", "commands, one a machine"),
    ("[k0sctl](https://github.com/k0sproject/k0sctl)", "2 min", "18", "`k0sctl.yaml`"),
    (
        "[kubespray](https://github.com/kubernetes-sigs/kubespray)",
        "15-60 min",
        "15",
        "`inventory.ini`; its group_vars are a copy of the sample's",
    ),
)


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure's title and the most seconds that it may take."""

    title: str
    most: float

    def figure(self, seconds: float) -> Figure:
        """Give the figure of what was measured."""
        most = f"≤ {self.most:g} s" if self.most < 120 else f"≤ {self.most / 60:g} min"
        return Figure(self.title, seconds, "s", most, seconds <= self.most)


PLAN = Goal("`site plan` of 3 bare machines", 5)
READY = Goal("`site apply`: 3 bare machines to all nodes ready and looked at again", 180)
FIRST_JOB = Goal("the same, to the end of the first Job", 240)
PLAN_AGAIN = Goal("`site plan` of 3 installed machines, every file of theirs hashed", 5)
NOTHING = Goal("`site apply` with nothing to do", 20)
CROWD = Goal("`site plan` of {} machines (network namespaces with an sshd each)", 30)


def main() -> int:
    """Measure, print, and write into the README what is asked for."""
    arguments = parse()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # Python may keep what it compiled, as a user's
    folder = Path(tempfile.mkdtemp(prefix="mlb-site-"))
    lab = made_lab()
    about, parts = conditions(arguments.repeats), []
    try:
        if "three" in arguments.only:
            figures, lines = three(lab, folder, arguments.repeats)
            parts.append(beside(lines))
        else:
            figures = []
        lab.down()
        if "crowd" in arguments.only:
            figures.append(many(lab, folder, arguments.crowd, arguments.repeats))
    finally:
        lab.down()
        shutil.rmtree(folder, ignore_errors=True)
    text = "\n\n".join((table(figures, about), *parts))
    print(text)
    if arguments.readme:
        write_between_marks(README, text, MARKS)
    return 0


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="make bench-site", description=__doc__)
    known = ["three", "crowd"]
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    parser.add_argument("--repeats", type=int, default=3, help="of what can be repeated")
    parser.add_argument("--crowd", type=int, default=50, help="how many machines are looked at")
    parser.add_argument("--readme", action="store_true", help="write the tables into README.md")
    return parser.parse_args()


def made_lab() -> Lab:
    """Give an empty lab beside the one of make lab-up, and of the tests."""
    given.bundle()
    folder = given.FOLDER / "bench"
    trees.claim(given.FOLDER)
    lab = Lab(folder, given.ROOT or Lab(given.FOLDER).base(), os.environ.get(SUBNET, "10.77.2"))
    lab.down()
    return lab


def three(lab: Lab, folder: Path, repeats: int) -> tuple[list[Figure], int]:
    """Follow three machines from bare to a cluster and back; count the site file's lines."""
    hosts = lab.up(len(NAMES))
    roles = ("control-plane, worker, registry", "worker", "worker")
    door = site(
        folder / "three", lab, dict(zip(NAMES, zip(hosts, roles, strict=True), strict=True))
    )
    figures = [PLAN.figure(repeated(door, repeats, "site", "plan"))]
    began = time.perf_counter()
    figures.append(READY.figure(timed(door, "site", "apply")))
    if not ready(hosts[0], NAMES):
        raise SystemExit("the apply ended, but not all nodes are ready")
    kubectl(hosts[0], "create", "job", "first", f"--image={IMAGE}", "--", "true")
    kubectl(hosts[0], "wait", "--for=condition=complete", "job/first", "--timeout=120s")
    figures.append(FIRST_JOB.figure(time.perf_counter() - began))
    kubectl(hosts[0], "delete", "job/first")
    figures.append(PLAN_AGAIN.figure(repeated(door, repeats, "site", "plan")))
    figures.append(NOTHING.figure(repeated(door, repeats, "site", "apply")))
    removed = timed(door, "site", "remove", "--yes")
    figures.append(Figure("`site remove` of 3 machines", removed, "s", "-", True))
    return figures, written(door)


def many(lab: Lab, folder: Path, count: int, repeats: int) -> Figure:
    """Look at many machines; what is planned for them is not done."""
    with crowd(lab, count) as doors:
        roles = ["control-plane", *["worker"] * (count - 1)]
        machines = {it.name: (it, role) for it, role in zip(doors.values(), roles, strict=True)}
        door = site(folder / "crowd", lab, machines)
        goal = Goal(CROWD.title.format(count), CROWD.most)
        return goal.figure(repeated(door, repeats, "site", "plan"))


def site(folder: Path, lab: Lab, machines: Mapping[str, tuple[Reached, str]]) -> SiteDoor:
    """Describe a site and know its machines' keys."""
    folder.mkdir()
    door = SiteDoor(folder, lab.folder, machines)
    timed(door, "site", "trust", "--yes")
    return door


def timed(door: SiteDoor, *words: str) -> float:
    """Run the command line to its end, as a process of its own; give the seconds."""
    began = time.perf_counter()
    door.call(*words)
    seconds = time.perf_counter() - began
    progress(f"mlstead {' '.join(words)}: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}")
    return seconds


def repeated(door: SiteDoor, repeats: int, *words: str) -> float:
    """Give the median of some runs."""
    return statistics.median(timed(door, *words) for _ in range(repeats))


def conditions(repeats: int) -> str:
    """Say on what and when the figures were taken."""
    cores = len(os.sched_getaffinity(0))
    size = sum(path.lstat().st_size for path in given.bundle().glob("*/*"))
    return (
        f"Whole processes without the warm one, all machines in namespaces of one machine with "
        f"{cores} cores, Python {platform.python_version()}, {datetime.now(UTC).date()}, load "
        f"{os.getloadavg()[0]:.1f} at the start; what can be repeated: medians of {repeats}. "
        f"A bundle of {size / 1e6:,.0f} MB."
    )


def beside(lines: int) -> str:
    """Give the table of what others publish, and how much a person writes."""
    rows = [("mlstead", "above", str(lines), "`site.yaml`"), *PUBLISHED]
    head = ("| for three machines | time | lines to write | namely |", "|---|---|---|---|")
    cells = (f"| {' | '.join(row)} |" for row in rows)
    about = (
        "Times of others as the issue gives them, not measured here; only k3sup's was found at its "
        "source, where it is for each machine. Lines were counted in samples, partly old:"
    )
    return "\n".join((about, "", *head, *cells))


def written(door: SiteDoor) -> int:
    """Count the lines of a site file, without those that only the lab needs."""
    text = door.file.read_text(encoding="utf-8")
    return len(text.partition("kubernetes:\n")[0].splitlines())


if __name__ == "__main__":
    sys.exit(main())
