"""Says where it runs, counts to five, and ends: about the smallest job there is."""

import os
import platform
import time


def main() -> None:
    """Print a few lines, with pauses, so that there is something to follow."""
    print(f"Hello from {platform.node()}, Python {platform.python_version()}")
    print(f"run: {os.environ.get('MLSTEAD_RUN_ID', 'none (started by hand)')}")
    for number in range(1, 6):
        print(f"working, {number} of 5", flush=True)
        time.sleep(0.2)
    print("done")


if __name__ == "__main__":
    main()
