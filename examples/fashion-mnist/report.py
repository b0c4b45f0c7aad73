"""Step 5: the one look at the test part, through the service, as any client would ask it."""

import argparse
import json
import os
import urllib.request
from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot

AT_ONCE = 100  # images a request
CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
TEXT = """# Fashion-MNIST: report of {run}

The served model finds the class of **{right} of {count}** test images: accuracy **{accuracy:.4f}**.
Nothing but this report has looked at the test part.

![Confusion matrix](confusion.png)

| what | where |
|---|---|
| best learning rate | {lr} |
| model | `{model}`: `mlstead model show {model}` |
| service | `{url}`, stays until `mlstead stop service/fashion` |
| this pipeline | `mlstead show {run}` |
| this report | `mlstead get {run}` |
"""


def ask(url: str, images: np.ndarray) -> list[int]:
    """Send one Open Inference Protocol request; give the class numbers it answers."""
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": list(images.shape),
        "data": images.ravel().tolist(),
    }
    request = urllib.request.Request(
        url,
        data=json.dumps({"inputs": [tensor]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [int(number) for number in json.load(answer)["outputs"][0]["data"]]


def draw(matrix: np.ndarray, path: Path) -> None:
    """Draw how often each class (row) was taken for each class (column)."""
    figure, axes = pyplot.subplots(figsize=(8, 7), layout="constrained")
    axes.imshow(matrix, cmap="Blues")
    axes.set_xticks(range(10), CLASSES, rotation=45, ha="right")
    axes.set_yticks(range(10), CLASSES)
    axes.set(xlabel="predicted", ylabel="true")
    for row, column in np.argwhere(matrix):
        colour = "white" if matrix[row, column] > matrix.max() / 2 else "black"
        axes.text(column, row, matrix[row, column], ha="center", va="center", color=colour)
    figure.savefig(path, dpi=100)


def main() -> None:
    """Write report.md, confusion.png and the accuracy."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", required=True, help="the service's address")
    for name in ("model", "run"):
        arguments.add_argument(f"--{name}", default="?")
    given = arguments.parse_args()
    inputs = Path(os.environ["MLSTEAD_INPUTS"])
    outputs = Path(os.environ["MLSTEAD_OUTPUTS"])
    with np.load(inputs / "test" / "test.npz") as data:
        images, labels = data["images"], data["labels"]

    url = f"{given.url.rstrip('/')}/v2/models/fashion/infer"
    answers: list[int] = []
    for start in range(0, len(images), AT_ONCE):
        answers += ask(url, images[start : start + AT_ONCE])
    found = np.array(answers)
    matrix = np.zeros((10, 10), dtype=int)
    np.add.at(matrix, (labels, found), 1)
    folder = outputs / "report"
    folder.mkdir(parents=True, exist_ok=True)
    draw(matrix, folder / "confusion.png")

    accuracy = float((found == labels).mean())
    facts = {"right": int((found == labels).sum()), "count": len(labels), "accuracy": accuracy}
    settings = json.loads((inputs / "best" / "settings.json").read_text())
    text = TEXT.format(**facts, **vars(given), lr=settings["lr"])
    (folder / "report.md").write_text(text)
    (outputs / "values.json").write_text(json.dumps({"accuracy": accuracy}))
    print(text)


if __name__ == "__main__":
    main()
