"""Step 6: writes down how good the served model is on held-out images, and where all lies."""

import argparse
import json
import os
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

TEXT = """# Digits: report of {run}

The served model answers **{right} of {count}** held-out images right: accuracy **{accuracy:.4f}**.

![Confusion matrix](confusion.png)

| what | where |
|---|---|
| best candidate | {candidate}: {cross:.4f} in cross-validation |
| model | `{model}`: `mlstead model show {model}` |
| data | `{data}` |
| service | `{url}`, stays until `mlstead stop service/digits` |
| this pipeline | `mlstead show {run}` |
| this report | `mlstead get {run}` |

Ranking in cross-validation: {ranking}.
"""


def confusion(true: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count how often each digit (row) was taken for each digit (column)."""
    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (true, predicted), 1)
    return matrix


def draw(matrix: np.ndarray, path: Path) -> None:
    """Draw the matrix with its numbers."""
    figure, axes = pyplot.subplots(figsize=(6, 6), layout="constrained")
    axes.imshow(matrix, cmap="Blues")
    axes.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
    for row, column in np.argwhere(matrix):
        colour = "white" if matrix[row, column] > matrix.max() / 2 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write report.md, confusion.png and the accuracy."""
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("url", "model", "data", "run", "candidate", "ranking"):
        arguments.add_argument(f"--{name}", default="?")
    arguments.add_argument("--cross", type=float, default=float("nan"))
    given = arguments.parse_args()

    source = Path(os.environ["MLSTEAD_INPUTS"]) / "predictions" / "predictions.npz"
    with np.load(source) as data:
        true, predicted = data["true"], data["predicted"]
    outputs = Path(os.environ["MLSTEAD_OUTPUTS"])
    folder = outputs / "report"
    folder.mkdir(parents=True, exist_ok=True)
    draw(confusion(true, predicted), folder / "confusion.png")

    accuracy = float((true == predicted).mean())
    facts = {"right": int((true == predicted).sum()), "count": len(true), "accuracy": accuracy}
    text = TEXT.format(**facts, **vars(given))
    (folder / "report.md").write_text(text)
    (outputs / "values.json").write_text(json.dumps({"accuracy": accuracy}))
    print(text)


if __name__ == "__main__":
    main()
