"""``data add`` of 1 GB, beside reading it and hashing it with the store's hash alone."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks._figures import Figure
from benchmarks._measure import Command, alternate, wall
from benchmarks._place import Place

FILES, EACH = 8, 125_000_000
LEAST = 0.7
HASH = """
import hashlib, pathlib, sys
for file in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    with file.open("rb") as stream:
        print(hashlib.file_digest(stream, "md5").hexdigest())
"""


def figures(place: Place) -> list[Figure]:
    """Time adding to an empty store each time; both read from the page cache after the first."""
    source = place.folder("source")
    for number in range(FILES):
        fill(source / f"part{number}")
    home = Path(place.env["MLSTEAD_HOME"])

    def forget() -> None:
        shutil.rmtree(home, ignore_errors=True)

    ours = place.mlstead("data", "add", "big", str(source))
    commands = {
        "mlstead": Command(ours.argv, ours.cwd, ours.env, before=forget),
        "md5": Command([sys.executable, "-c", HASH, str(source)], place.root),
    }
    samples = alternate(commands, place.repeats)
    megabytes = FILES * EACH / 1e6
    speed, bare = megabytes / wall(samples["mlstead"]), megabytes / wall(samples["md5"])
    goal = f"≥ {LEAST}× its speed"
    ratio = speed / bare
    beside = {"read + md5": bare}
    return [Figure("`data add` of 1 GB", speed, "MB/s", goal, ratio >= LEAST, beside, ratio)]


def fill(file: Path) -> None:
    """Write bytes that no store can make smaller."""
    with file.open("wb") as stream:
        for _ in range(EACH // 1_000_000):
            stream.write(os.urandom(1_000_000))
