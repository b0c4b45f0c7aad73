"""Fits a straight line to noisy points and saves it where the run keeps its outputs."""

import json
import os
import random
import statistics
from pathlib import Path


def main() -> None:
    """Train, save the model as a folder with one file, and the error as a small value."""
    chance = random.Random(int(os.environ.get("MLSTEAD_SEED", "7")))
    xs = [chance.uniform(0, 10) for _ in range(500)]
    ys = [3.0 * x + 2.0 + chance.gauss(0, 1) for x in xs]
    line = statistics.linear_regression(xs, ys)
    error = statistics.fmean(
        abs(y - (line.slope * x + line.intercept)) for x, y in zip(xs, ys, strict=True)
    )

    outputs = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs"))
    model = outputs / "model"
    model.mkdir(parents=True, exist_ok=True)
    (model / "line.json").write_text(
        json.dumps({"slope": line.slope, "intercept": line.intercept}, indent=2) + "\n"
    )
    (outputs / "values.json").write_text(json.dumps({"error": error}))
    print(f"y = {line.slope:.3f} x + {line.intercept:.3f}, mean error {error:.3f}")


if __name__ == "__main__":
    main()
