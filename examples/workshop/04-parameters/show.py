"""Shows the three ways a parameter reaches a program, and checks that they agree."""

import argparse
import json
import os
from pathlib import Path


def main() -> None:
    """Print every parameter as the file, the environment and the command line give it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lr", type=float, default=0.1)
    arguments.add_argument("--note", default="")
    given = arguments.parse_args()

    path = os.environ.get("MLSTEAD_PARAMS")
    params = json.loads(Path(path).read_text()) if path else vars(given)
    print("file:       ", json.dumps(params, sort_keys=True))
    print("environment:", os.environ.get("MLSTEAD_PARAM_LR"), os.environ.get("MLSTEAD_PARAM_NOTE"))
    print("command:    ", given.lr, given.note)

    same = params["lr"] == given.lr and params["note"] == given.note
    if path:
        same = same and os.environ["MLSTEAD_PARAM_NOTE"] == given.note
        same = same and float(os.environ["MLSTEAD_PARAM_LR"]) == given.lr
    print("all the same:", same)
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()
