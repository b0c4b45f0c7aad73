"""Step 3: shows how the candidates did, and passes the best one on to be registered."""

import json
import os
import shutil
from pathlib import Path


def main() -> None:
    """Rank the candidates and copy the best one's model folder."""
    inputs = Path(os.environ["MLSTEAD_INPUTS"])
    outputs = Path(os.environ["MLSTEAD_OUTPUTS"])
    found = json.loads((inputs / "candidates" / "index.json").read_text())
    ranking = sorted(found, key=lambda one: -one["values"]["accuracy"])
    for place, one in enumerate(ranking, start=1):
        print(f"{place}. {one['item']}: {one['values']['accuracy']:.4f}")

    # mlstead has picked it already: `pick` in pipeline.yaml
    shutil.copytree(inputs / "best", outputs / "model", copy_function=shutil.copyfile)
    values = {
        "candidate": ranking[0]["item"],
        "accuracy": ranking[0]["values"]["accuracy"],
        "ranking": {one["item"]: one["values"]["accuracy"] for one in ranking},
    }
    (outputs / "values.json").write_text(json.dumps(values))


if __name__ == "__main__":
    main()
