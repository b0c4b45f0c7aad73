"""Step 1: takes the digits inside scikit-learn, holds a part out, and writes both as arrays."""

import os
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HELD_OUT = 0.25
SEED = 0


def main() -> None:
    """Write train.npz and test.npz: images of 64 numbers from 0 to 16, and their digits."""
    images, digits = load_digits(return_X_y=True)
    train, test, train_digits, test_digits = train_test_split(
        images.astype(np.float32), digits, test_size=HELD_OUT, stratify=digits, random_state=SEED
    )
    folder = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs")) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "train.npz", images=train, digits=train_digits)
    np.savez(folder / "test.npz", images=test, digits=test_digits)
    print(f"{len(train)} images to learn from, {len(test)} held out")


if __name__ == "__main__":
    main()
