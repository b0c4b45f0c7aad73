"""Step 5: asks the service for the held-out images, as any client would."""

import argparse
import json
import os
import urllib.request
from pathlib import Path

import numpy as np

AT_ONCE = 50  # images a request


def ask(url: str, images: np.ndarray) -> list[int]:
    """Send one Open Inference Protocol request; give the digits it answers."""
    tensor = {
        "name": "image",
        "datatype": "FP32",
        "shape": list(images.shape),
        "data": images.ravel().tolist(),
    }
    request = urllib.request.Request(
        url,
        data=json.dumps({"inputs": [tensor]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return [int(digit) for digit in json.load(answer)["outputs"][0]["data"]]


def main() -> None:
    """Predict every held-out image; write true and predicted digits."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", required=True, help="the service's address")
    arguments.add_argument("--model", default="digits", help="its name")
    given = arguments.parse_args()

    with np.load(Path(os.environ["MLSTEAD_INPUTS"]) / "data" / "test.npz") as data:
        images, digits = data["images"], data["digits"]
    url = f"{given.url.rstrip('/')}/v2/models/{given.model}/infer"
    answers: list[int] = []
    for start in range(0, len(images), AT_ONCE):
        answers += ask(url, images[start : start + AT_ONCE])
    print(f"{len(answers)} answers from {url}")

    folder = Path(os.environ["MLSTEAD_OUTPUTS"]) / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", true=digits, predicted=np.array(answers))


if __name__ == "__main__":
    main()
