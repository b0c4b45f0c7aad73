"""Reads Fashion-MNIST's IDX files (plain or gzipped) as arrays."""

import gzip
import zlib
from pathlib import Path

import numpy as np


def load(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Give the images of a part ("train" or "t10k") as [n, 784] from 0 to 1, and their classes."""
    images = _values(folder, f"{part}-images-idx3-ubyte")
    labels = _values(folder, f"{part}-labels-idx1-ubyte")
    if len(images) != len(labels):
        raise SystemExit(f"{folder}: {len(images)} images, but {len(labels)} classes")
    return images.reshape(len(images), -1).astype(np.float32) / 255, labels.astype(np.int64)


def _values(folder: Path, name: str) -> np.ndarray:
    zipped = folder / f"{name}.gz"
    try:
        data = gzip.decompress(zipped.read_bytes()) if zipped.is_file() else None
        data = (folder / name).read_bytes() if data is None else data
        sizes = [int.from_bytes(data[at : at + 4], "big") for at in range(4, 4 + 4 * data[3], 4)]
        return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sizes)
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise SystemExit(f"{folder}: cannot read {name}: {error}") from error
