"""Reads IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped; standard library only.

Two zero bytes, a type (8: unsigned bytes), the number of dimensions, each size as four bytes (most
significant first), then the values.
"""

import gzip
import math
import zlib
from pathlib import Path

MOST = 1 << 30  # bytes of values; the real set has 47 million


def read(path: Path) -> tuple[tuple[int, ...], bytes]:
    """Give the sizes and the values of an IDX file.

    Raises:
        ValueError: it is not an IDX file of bytes, or not whole.
        OSError: it cannot be read.
    """
    with path.open("rb") as raw:
        zipped = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path) if zipped else path.open("rb") as file:
        try:
            start = file.read(4)
            if len(start) < 4 or start[:3] != b"\0\0\x08" or not 1 <= start[3] <= 4:
                raise ValueError(f"{path.name}: not an IDX file of bytes")
            sizes = tuple(int.from_bytes(file.read(4), "big") for _ in range(start[3]))
            count = math.prod(sizes)
            if count > MOST:
                raise ValueError(f"{path.name}: says it holds {count} values, which is too much")
            values = file.read(count + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path.name}: {error}") from error
    if len(values) != count:
        raise ValueError(f"{path.name}: {len(values)} values, {count} announced")
    return sizes, values


def find(folder: Path, name: str) -> Path:
    """Find a file by its official name, with or without ``.gz``.

    Raises:
        ValueError: it is not there.
    """
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder}: no {name} or {name}.gz")


def pairs(folder: Path, part: str) -> tuple[int, bytes, bytes]:
    """Give the number of images of a part ("train" or "t10k"), their pixels and their classes.

    Raises:
        ValueError: a file is missing or broken, or the two do not belong together.
    """
    sizes, pixels = read(find(folder, f"{part}-images-idx3-ubyte"))
    (count, *more), classes = read(find(folder, f"{part}-labels-idx1-ubyte"))
    if len(sizes) != 3 or sizes[1:] != (28, 28) or more:
        raise ValueError(f"{part}: images must be 28 by 28, not {sizes[1:]}")
    if sizes[0] != count or not count:
        raise ValueError(f"{part}: {sizes[0]} images, but {count} classes")
    if max(classes) > 9:
        raise ValueError(f"{part}: there are ten classes, 0 to 9, but one is {max(classes)}")
    return count, pixels, classes
