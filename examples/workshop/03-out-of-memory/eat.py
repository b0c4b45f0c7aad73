"""Takes more and more memory, and says so, until something stops it."""

import os
import time

STEP = 16  # MiB


def main() -> None:
    """Hold ever more memory, up to the number of MiB in MLSTEAD_PARAM_UP_TO."""
    up_to = int(os.environ.get("MLSTEAD_PARAM_UP_TO", "1024"))
    held = []
    for total in range(STEP, up_to + 1, STEP):
        held.append(b"\x01" * (STEP << 20))
        print(f"holding {total} MiB", flush=True)
        time.sleep(0.05)
    print("nobody stopped me")


if __name__ == "__main__":
    main()
