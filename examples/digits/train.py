"""Step 2: trains one candidate, says how good it is, and writes it as an ONNX model.

The figure is the mean accuracy over five folds of the training part; the held-out part is not
looked at. The model that is kept is then fitted on the whole training part.
"""

import argparse
import json
import os
import warnings
from pathlib import Path

import numpy as np
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

try:
    from mlstead import log
except ImportError:  # by hand, where mlstead is not installed

    def log(**values: float) -> None:
        """Show what a run would record."""
        print(values)


FOLDS = 5
SEED = 0


def candidate(name: str) -> BaseEstimator:
    """Make an untrained model by its name."""
    candidates = {
        "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)),
        "forest": lambda: RandomForestClassifier(100, random_state=SEED),
        "svm": lambda: make_pipeline(StandardScaler(), SVC(C=10.0, gamma=0.01)),
    }
    if name not in candidates:
        raise SystemExit(f"no candidate {name!r}; there are {', '.join(candidates)}")
    return candidates[name]()


def judge(name: str, images: np.ndarray, digits: np.ndarray) -> float:
    """Give the mean accuracy over the folds, logged one by one."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED)
    scores = []
    for number, (learn, look) in enumerate(folds.split(images, digits)):
        model = candidate(name).fit(images[learn], digits[learn])
        scores.append(accuracy_score(digits[look], model.predict(images[look])))
        log(fold_accuracy=scores[-1], step=number)
        print(f"{name}: fold {number + 1} of {FOLDS}: {scores[-1]:.4f}", flush=True)
    return float(np.mean(scores))


def write_model(model: BaseEstimator, folder: Path) -> None:
    """Write the model as ONNX, and the card that tells the server what it takes and gives."""
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # the converter looks at fields scikit-learn is giving up
        warnings.simplefilter("ignore", FutureWarning)
        graph = convert_sklearn(
            model,
            initial_types=[("image", FloatTensorType([None, 64]))],
            options={"zipmap": False},
            target_opset=15,
        )
    (folder / "model.onnx").write_bytes(graph.SerializeToString())
    card = {
        "runtime": "onnx",
        "file": "model.onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 64]}],
        "classes": [str(digit) for digit in range(10)],
    }
    (folder / "mlstead-model.json").write_text(json.dumps(card, indent=2) + "\n")


def main() -> None:
    """Judge one candidate, fit it on everything, and leave model and figure behind."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--candidate", default="logistic")
    name = arguments.parse_args().candidate

    inputs = Path(os.environ.get("MLSTEAD_INPUTS", "outputs"))
    outputs = Path(os.environ.get("MLSTEAD_OUTPUTS", "outputs"))
    with np.load(inputs / "data" / "train.npz") as data:
        images, digits = data["images"], data["digits"]

    accuracy = judge(name, images, digits)
    log(accuracy=accuracy)
    write_model(candidate(name).fit(images, digits), outputs / "model")
    (outputs / "values.json").write_text(json.dumps({"accuracy": accuracy}))
    print(f"{name}: accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
