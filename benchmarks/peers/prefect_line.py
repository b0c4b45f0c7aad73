"""Times Prefect's in-process tasks, each one ``true``, one after another: seconds of one more task.

Within one flow: from after task FEW to after task MANY. Starting Prefect's own server (ten seconds)
and a flow (one to eight, it varies) stays out, and so does a first, untimed flow.
"""

import statistics
import subprocess
import sys
import time

from prefect import flow, task

FLOWS = 3


@task
def one(before: int) -> int:
    """Run the program ``true``."""
    subprocess.run(["true"], check=True)
    return before + 1


@flow
def line(steps: int) -> list[float]:
    """Run the tasks one after another; give the time after each."""
    done, times = 0, []
    for _ in range(steps):
        done = one(done)
        times.append(time.perf_counter())
    return times


if __name__ == "__main__":
    few, many = (int(text) for text in sys.argv[1:])
    line(few)
    ended = [line(many) for _ in range(FLOWS)]
    print("STEP", statistics.median((at[-1] - at[few - 1]) / (many - few) for at in ended))
