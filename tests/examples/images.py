"""The images the framework tests use: a real sample where one is given, else made ones."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np

VARIABLE = "MLSTEAD_TEST_IMAGES"


def folder(aside: Path) -> tuple[Path, bool]:
    """Give a folder of four IDX files, and whether they are real images."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given), True
    made = aside / "images"
    made.mkdir()
    chance = np.random.default_rng(7)
    for part, count in (("train", 160), ("t10k", 40)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = chance.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        _write(made / f"{part}-images-idx3-ubyte.gz", images)
        _write(made / f"{part}-labels-idx1-ubyte.gz", labels)
    return made, False


def _write(path: Path, array: np.ndarray) -> None:
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(head + array.tobytes(), mtime=0))
