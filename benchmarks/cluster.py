"""The command behind make bench-cluster: work on the cluster of make cluster-up, beside kubectl."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from moto.server import ThreadedMotoServer
from tests.cluster import base_image, bed
from tests.contract.s3_server import KEY, SECRET, S3Server
from tests.machines import given

from benchmarks._figures import Figure, table, write_between_marks
from benchmarks._measure import progress
from mlstead.clients.kubernetes import Cluster
from mlstead.clients.kubernetes_login import read

README = Path(__file__).parents[1] / "README.md"
MARKS = (
    "<!-- figures of a cluster: make bench-cluster ARGS=--readme writes between these lines -->",
    "<!-- end of figures of a cluster -->",
)
NAMESPACE = "bench"
TRIALS, AT_ONCE = 100, 8
POD = {
    "restartPolicy": "Never",
    "securityContext": {
        "runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [
        {
            "name": "main",
            "image": bed.image(),
            "command": ["true"],
            "resources": {
                "requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "64Mi"},
            },
            "securityContext": {
                "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}  # fmt: skip
EMPTY = """\
mlstead: 1
kind: job
name: empty
command: "true"
code: null
resources: {cpu: 0.1, memory: 64Mi}
"""
SWEEP = f"""\
mlstead: 1
kind: sweep
name: many
trial:
  code: null
  params: {{number: 0}}
  command: "true"
  resources: {{cpu: 0.1, memory: 64Mi}}
search: {{points: {json.dumps([{"number": number} for number in range(TRIALS)])}}}
parallel: {AT_ONCE}
"""
EDITED = """\
mlstead: 1
kind: job
name: edited
command: python3 main.py
resources: {cpu: 0.1, memory: 64Mi}
"""


class Bench:
    """A home with a context of the cluster, and kubectl beside it."""

    def __init__(self, folder: Path, s3: S3Server) -> None:
        self.folder = folder
        login = base_image.login_of_bed()
        authority = folder / "registry.pem"
        authority.write_text(login.authority, encoding="utf-8")
        self.env = {
            **os.environ,
            "MLSTEAD_HOME": str(folder / "home"),
            "MLSTEAD_REGISTRY_PASSWORD": login.password,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "KUBECONFIG": str(bed.kubeconfig()),
        }
        self.kubectl = [str(given.bundle() / "bin" / "kubectl"), "-n", NAMESPACE]
        self.mlstead(
            "context", "add", "cluster", "--engine=kubernetes",
            f"--kubeconfig={bed.kubeconfig()}", f"--namespace={NAMESPACE}",
            f"--image={bed.image()}", f"--registry={login.address}/bench",
            f"--registry-user={login.user}", f"--registry-authority={authority}",
            f"--artifacts=s3://{s3.bucket()}/bench", f"--endpoint={s3.endpoint}",
        )  # fmt: skip
        self.mlstead("context", "use", "cluster")

    def mlstead(self, *words: str, first: bool = False) -> float:
        """Run a verb as a process; give the seconds to its end, or to its first line of output."""
        program = str(Path(sys.executable).parent / "mlstead")
        began = time.perf_counter()
        process = subprocess.Popen(
            [program, *words], env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        if first:
            process.stdout.readline()
            seconds = time.perf_counter() - began
        _, err = process.communicate()
        if process.returncode:
            raise SystemExit(f"mlstead {' '.join(words)}: {err.decode()}")
        return seconds if first else time.perf_counter() - began

    def bare(self) -> float:
        """Apply a Job by kubectl, wait for it, read its log."""
        name = f"bare-{random.randrange(10**9)}"
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {"backoffLimit": 0, "template": {"spec": POD}},
        }
        began = time.perf_counter()
        self._kubectl("apply", "-f", "-", text=json.dumps(job))
        self._kubectl("wait", "--for=condition=complete", f"job/{name}", "--timeout=120s")
        self._kubectl("logs", f"job/{name}")
        seconds = time.perf_counter() - began
        self._kubectl("delete", "job", name, "--wait=false")
        return seconds

    def bare_sweep(self) -> float:
        """Create a hundred Jobs and wait for each, as many at a time as the sweep."""
        job = {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"generateName": "many-"},
            "spec": {"backoffLimit": 0, "template": {"spec": POD}},
        }
        file = self.folder / "many.json"
        file.write_text(json.dumps(job), encoding="utf-8")
        words = " ".join(self.kubectl)
        script = (
            f"job=$({words} create -f {file} -o name) && "
            f"{words} wait --for=condition=complete $job --timeout=300s"
        )
        began = time.perf_counter()
        numbers = "\n".join(map(str, range(TRIALS)))
        subprocess.run(
            ["xargs", f"-P{AT_ONCE}", "-I{}", "sh", "-c", script],
            input=numbers, text=True, env=self.env, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        self._kubectl("delete", "jobs", "--all", "--wait=false")
        return seconds

    def _kubectl(self, *words: str, text: str = "") -> None:
        subprocess.run(
            [*self.kubectl, *words],
            input=text, text=True, env=self.env, check=True, capture_output=True,
        )  # fmt: skip


def main() -> int:
    """Measure, print, and write into the README what is asked for."""
    parser = argparse.ArgumentParser(prog="make bench-cluster", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of what is short")
    parser.add_argument("--readme", action="store_true", help="write the table into README.md")
    known = ["job", "edit", "sweep"]
    parser.add_argument("--only", nargs="+", choices=known, default=known)
    arguments = parser.parse_args()
    about = conditions(arguments.repeats, arguments.only)
    with made() as bench:
        text = table(figures(bench, arguments.repeats, arguments.only), about)
    print(text)
    if arguments.readme:
        write_between_marks(README, text, MARKS)
    return 0


@contextmanager
def made() -> Iterator[Bench]:
    """Give a new home, a namespace and an S3 server that pods reach; all of them go again."""
    folder = Path(tempfile.mkdtemp(prefix="mlb-cluster-"))
    server = ThreadedMotoServer(bed.GATEWAY, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    cluster = Cluster(read(bed.kubeconfig()))
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE, "labels": labels}})
    bench = Bench(folder, S3Server(f"http://{bed.GATEWAY}:{port}"))
    try:
        yield bench
    finally:
        cluster.delete(f"/api/v1/namespaces/{NAMESPACE}")
        cluster.close()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def figures(bench: Bench, repeats: int, only: Sequence[str]) -> list[Figure]:
    """Take all figures, each beside kubectl in turns."""
    file = bench.folder / "empty.yaml"
    file.write_text(EMPTY, encoding="utf-8")
    bench.mlstead("run", str(file))  # the runner's ConfigMap and the warm process are there now
    bench.bare()
    ours, bare = in_turns(repeats, lambda: bench.mlstead("run", str(file)), bench.bare)
    found = [_figure("A job that does nothing, command to exit", ours, bare, 1.3)]
    if "edit" in only:
        edited = statistics.median(edits(bench, repeats))
        title = "First line of a job's log after one file of 50 MB of code was changed"
        found.append(_figure(title, edited, bare, 1.5))
    if "sweep" not in only:
        return found
    sweep = bench.folder / "sweep.yaml"
    sweep.write_text(SWEEP, encoding="utf-8")
    ours, bare = in_turns(1, lambda: bench.mlstead("run", str(sweep)), bench.bare_sweep)
    found.append(_figure(f"Sweep of {TRIALS} trials, {AT_ONCE} at a time", ours, bare, 1.3))
    return found


def in_turns(
    repeats: int, ours: Callable[[], float], theirs: Callable[[], float]
) -> tuple[float, float]:
    """Give the medians of two that are measured in turns."""
    mine, other = [], []
    for _ in range(repeats):
        mine.append(ours())
        other.append(theirs())
        progress(f"{mine[-1]:.2f} s, kubectl {other[-1]:.2f} s, load {os.getloadavg()[0]:.1f}")
    return statistics.median(mine), statistics.median(other)


def edits(bench: Bench, repeats: int) -> Iterator[float]:
    """Change one file of a folder of 50 MB again and again, and run it."""
    folder = bench.folder / "code"
    folder.mkdir()
    chance = random.Random(7)
    for number in range(50):
        (folder / f"part{number}.bin").write_bytes(chance.randbytes(1_000_000))
    (folder / "work.yaml").write_text(EDITED, encoding="utf-8")
    for number in range(repeats + 1):
        (folder / "main.py").write_text(f"print('edit {number}', flush=True)\n", encoding="utf-8")
        seconds = bench.mlstead("run", str(folder / "work.yaml"), first=True)
        progress(f"edit {number}: {seconds:.2f} s")
        if number:  # the first one sends all of it
            yield seconds


def _figure(title: str, ours: float, bare: float, most: float) -> Figure:
    peers = {"kubectl, the same Job": bare}
    goal = f"≤ {most:g}× kubectl"
    return Figure(title, ours, "s", goal, ours <= most * bare, peers, ours / bare)


def conditions(repeats: int, only: Sequence[str]) -> str:
    """Say on what and when the figures were taken."""
    cores = len(os.sched_getaffinity(0))
    sweep = "the sweep once" if "sweep" in only else "the sweep left out"
    return (
        f"Two nodes made by `site apply`, both in namespaces of one machine with {cores} cores, "
        f"Python {platform.python_version()}, {datetime.now(UTC).date()}, load "
        f"{os.getloadavg()[0]:.1f} at the start. Whole processes in turns with kubectl (apply, "
        f"wait, logs of the same pod); medians of {repeats}, {sweep}. "
        "The S3 server is moto, a Python program on the same cores. "
        "buildah, which the issue names, was not there."
    )


if __name__ == "__main__":
    sys.exit(main())
