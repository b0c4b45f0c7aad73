"""Step 1: brings the images in, checks them, and sets a part for validation aside.

The source is a folder with the four IDX files, or with a ``download.json`` that names where they
are and the checksums their publisher states.
"""

import os
import sys
import tempfile
from pathlib import Path

import fetch
import idx
import numpy as np

VALIDATION = 0.2
SEED = 0


def main() -> None:
    """Write train/train.npz, with the validation part marked, and test/test.npz."""
    inputs = Path(os.environ.get("MLSTEAD_INPUTS", "."))
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else inputs / "source"
    outputs = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs"))
    try:
        if (source / "download.json").is_file():
            with tempfile.TemporaryDirectory() as folder:
                fetch.download(source / "download.json", Path(folder))
                convert(Path(folder), outputs)
        else:
            convert(source, outputs)
    except (OSError, ValueError) as error:
        raise SystemExit(f"ingest: {error}") from error


def convert(folder: Path, outputs: Path) -> None:
    """Turn the IDX files into arrays; training and test part go to folders of their own."""
    count, pixels, classes = idx.pairs(folder, "train")
    labels = np.frombuffer(classes, np.uint8).astype(np.int64)
    validation = set_aside(labels)
    (outputs / "train").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        outputs / "train" / "train.npz",
        images=np.frombuffer(pixels, np.uint8).reshape(count, 28, 28),
        labels=labels,
        validation=validation,
    )
    print(f"{count} images to learn from, {int(validation.sum())} of them for validation")

    count, pixels, classes = idx.pairs(folder, "t10k")
    (outputs / "test").mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        outputs / "test" / "test.npz",
        images=np.frombuffer(pixels, np.uint8).reshape(count, 28, 28),
        labels=np.frombuffer(classes, np.uint8).astype(np.int64),
    )
    print(f"{count} images for the test at the end")


def set_aside(labels: np.ndarray) -> np.ndarray:
    """Mark the same share of every class, drawn by a fixed seed."""
    marked = np.zeros(len(labels), dtype=bool)
    chance = np.random.default_rng(SEED)
    for label in np.unique(labels):
        places = chance.permutation(np.flatnonzero(labels == label))
        marked[places[: round(len(places) * VALIDATION)]] = True
    return marked


if __name__ == "__main__":
    main()
