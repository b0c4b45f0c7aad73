"""100,000 metric points from a program through to the records, and all in MLflow in the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlstead.records
from benchmarks._figures import Figure
from benchmarks._measure import Command, measure, progress
from benchmarks._peers import PROGRAMS, QUIET
from benchmarks._place import Place
from benchmarks.empty_job import program
from mlstead import discover
from mlstead.records.base import Query

POINTS, PEER_POINTS = 100_000, 300
LEAST = 1000.0
PROGRAM = f"""
import mlstead
for step in range({POINTS}):
    mlstead.log(loss=1.0 / (step + 1), step=step)
"""


def figures(place: Place) -> list[Figure]:
    """Time each run from the command until its last point stands in the records."""
    job = {"mlstead": 1, "kind": "job", "name": "points", "command": [sys.executable, "log.py"]}
    file = place.work_file("points", job)
    (file.parent / "log.py").write_text(PROGRAM)
    taken, peers = [], []
    with mlflow_server(place) as address:
        script = str(PROGRAMS / "mlflow_points.py")
        argv = [program("mlflow", "python"), script, address, str(PEER_POINTS)]
        peer = Command(argv, place.folder("mlflow-client"), QUIET)
        for number in range(place.repeats):
            taken.append(until_recorded(place, file))
            told = re.search(r"SECONDS ([\d.]+)", measure(peer).output)
            assert told, "the peer's program tells its seconds"
            peers.append(PEER_POINTS / float(told[1]))
            progress(f"{number + 1} of {place.repeats}: {taken[-1]:.1f} s, {peers[-1]:.0f}/s")
    speed, bare = POINTS / statistics.median(taken), statistics.median(peers)
    kept = in_mlflow(place, place.repeats)
    title = f"{POINTS:,} metric points from a program to the records"
    goal = f"≥ {LEAST:,.0f}/s; all in MLflow: {kept:,} of {POINTS * place.repeats:,}"
    reached = speed >= LEAST and kept == POINTS * place.repeats
    beside = {"MLflow's server": bare}
    return [Figure(title, speed, "/s", goal, reached, beside, speed / bare)]


def until_recorded(place: Place, file: Path) -> float:
    """Run the job; give the seconds until the records hold every point of it.

    Raises:
        SystemExit: points are missing two minutes after the run's end.
    """
    began = time.perf_counter()
    measure(place.mlstead("run", file.name, cwd=file.parent))
    url = f"sqlite:///{place.env['MLSTEAD_HOME']}/records.db"
    store = discover.part(mlstead.records, "sql").create(url)
    newest = store.runs(Query(limit=1))[0].id
    deadline = time.monotonic() + 120
    while (last := store.latest([newest]).get(newest, {}).get("loss")) is None or (
        last.step != POINTS - 1
    ):
        if time.monotonic() > deadline:
            raise SystemExit(f"only up to step {last and last.step} in the records")
        time.sleep(0.02)
    seconds = time.perf_counter() - began
    recorded, after = 0, 0
    while page := store.points(newest, after=after):
        recorded, after = recorded + len(page), page[-1].number
    store.close()
    if recorded != POINTS:
        raise SystemExit(f"{recorded:,} of {POINTS:,} points in the records")
    return seconds


@contextlib.contextmanager
def mlflow_server(place: Place) -> Iterator[str]:
    """Run MLflow's own server with one worker over SQLite."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = place.folder("mlflow-server")
    argv = [program("mlflow", "mlflow"), "server", "--workers", "1", "--port", str(port)]
    argv += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, cwd=folder, env={**os.environ, **QUIET}, stdout=log, stderr=log
        )
        try:
            wait_until_open(port, process, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def wait_until_open(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a port answers.

    Raises:
        SystemExit: the server ended, or two minutes are over.
    """
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise SystemExit(f"MLflow's server did not start:\n{log.read_text()[-2000:]}")


COUNT = """
import json, sys
from mlflow.tracking import MlflowClient
from mlflow.entities import ViewType
client, total = MlflowClient(sys.argv[1]), 0
for experiment in client.search_experiments(view_type=ViewType.ALL):
    for run in client.search_runs([experiment.experiment_id]):
        total += len(client.get_metric_history(run.info.run_id, "loss"))
print(json.dumps({"points": total}))
"""


def in_mlflow(place: Place, runs: int) -> int:
    """Count the points that MLflow's own client finds, waiting until the last have arrived."""
    deadline = time.monotonic() + 120
    address = f"sqlite:///{place.env['MLSTEAD_HOME']}/mlflow.db"
    while True:
        counted = measure(Command([sys.executable, "-c", COUNT, address], place.root, QUIET))
        points = int(json.loads(counted.output.splitlines()[-1])["points"])
        if points >= runs * POINTS or time.monotonic() > deadline:
            return points
        time.sleep(2)
