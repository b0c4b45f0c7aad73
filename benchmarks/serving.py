"""Requests a second of our model server beside FastAPI, MLServer and KServe, same model, same load.

    python benchmarks/serving.py [--peers fastapi,mlserver,kserve] [--repeats 9] [--json]

The model is scikit-learn's LogisticRegression on iris, trained by each server at its start. Each
peer gets its own virtual environment in the user's cache folder, FastAPI the same numpy and
scikit-learn as ours. The load is closed-loop: each client sends its next request when the last one
is answered. All servers stay up and take turns in slices of a second, so that a busy machine is
busy for all of them alike; the processor time a request takes is the steadiest of the figures.
"""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import uvloop

CLIENTS = (1, 8, 32)
ROW = [5.1, 3.5, 1.4, 0.2]
TENSOR = {"name": "x", "shape": [1, 4], "datatype": "FP64", "data": ROW}
OIP_BODY = json.dumps({"inputs": [TENSOR]}).encode()
FASTAPI_BODY = json.dumps({"x": [ROW]}).encode()
SAME = [f"numpy=={version('numpy')}", f"scikit-learn=={version('scikit-learn')}"]

FIT = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
def fit():
    x, y = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(x, y)
"""
PREDICTOR = """
from fit import fit
def load(folder, params):
    return fit()
def predict(inputs, model):
    return model.predict(inputs["x"])
"""
CARD = {
    "runtime": "python",
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}],
    "classes": ["setosa", "versicolor", "virginica"],
}
FASTAPI = """
import numpy as np
from fastapi import FastAPI
from fit import fit
from pydantic import BaseModel
model, app = fit(), FastAPI()
class Rows(BaseModel):
    x: list[list[float]]
@app.post("/thread")
def thread(rows: Rows):
    return {"y": model.predict(np.array(rows.x)).tolist()}
@app.post("/loop")
async def loop(rows: Rows):
    return {"y": model.predict(np.array(rows.x)).tolist()}
"""
DUMP = "import joblib, fit; joblib.dump(fit.fit(), 'model.joblib')"
KSERVE = """
import sys
from fit import fit
from kserve import InferOutput, InferResponse, Model, ModelServer
class Iris(Model):
    def load(self):
        self.model, self.ready = fit(), True
        return True
    async def predict(self, payload, headers=None, response_headers=None):
        y = self.model.predict(payload.inputs[0].as_numpy())
        out = InferOutput(name="y", shape=list(y.shape), datatype="INT64", data=y.tolist())
        return InferResponse(payload.id or "1", self.name, [out])
model = Iris("iris")
model.load()
ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, access_log_format=None).start([model])
"""


@dataclass
class Target:
    """One address to load: which server, which path, what is sent."""

    name: str
    server: str
    path: str
    body: bytes
    results: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Server:
    """How one server's environment is made and how it is started in a folder, on a port."""

    packages: tuple[str, ...]
    prepare: Callable[[Path, str, int], None]
    command: Callable[[str, int], list[str]]


def prepare_ours(folder: Path, _python: str, port: int) -> None:
    (folder / "predictor.py").write_text(PREDICTOR)
    (folder / "mlstead-model.json").write_text(json.dumps(CARD))
    versions = {"v1": {"path": str(folder), "number": 1}}
    told = {"name": "iris", "port": port, "versions": versions, "code": str(folder)}
    (folder / "config.json").write_text(json.dumps(told))


def prepare_fastapi(folder: Path, _python: str, _port: int) -> None:
    (folder / "peer.py").write_text(FASTAPI)


def prepare_kserve(folder: Path, _python: str, _port: int) -> None:
    (folder / "peer.py").write_text(KSERVE)


def prepare_mlserver(folder: Path, python: str, port: int) -> None:
    subprocess.run([python, "-c", DUMP], cwd=folder, check=True)
    model = {
        "name": "iris",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib"},
    }
    settings = {
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "host": "127.0.0.1",
    }
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(settings))


def uvicorn(python: str, port: int) -> list[str]:
    quiet = ["--log-level", "warning", "--no-access-log", "--port", str(port)]
    return [python, "-m", "uvicorn", "peer:app", *quiet]


SERVERS = {
    "mlstead": Server((), prepare_ours, lambda py, _: [py, "-m", "mlstead.serving", "config.json"]),
    "fastapi": Server(("fastapi", "uvicorn[standard]", *SAME), prepare_fastapi, uvicorn),
    "mlserver": Server(
        ("mlserver", "mlserver-sklearn"),
        prepare_mlserver,
        lambda py, _: [str(Path(py).with_name("mlserver")), "start", "."],
    ),
    "kserve": Server(
        ("kserve", "scikit-learn"), prepare_kserve, lambda py, port: [py, "peer.py", str(port)]
    ),
}
PATHS = {
    "mlstead": [("mlstead", "/v2/models/iris/infer", OIP_BODY)],
    "fastapi": [("fastapi def", "/thread", FASTAPI_BODY), ("fastapi async", "/loop", FASTAPI_BODY)],
    "mlserver": [("mlserver", "/v2/models/iris/infer", OIP_BODY)],
    "kserve": [("kserve", "/v2/models/iris/infer", OIP_BODY)],
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(name: str, packages: tuple[str, ...]) -> str:
    """Give a peer's Python, its environment built where it is not yet."""
    if not packages:
        return sys.executable
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlstead-bench"
    folder = cache / f"{name}-{sys.version_info.major}.{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"building the environment of {name} …", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
        subprocess.run([*uv, "pip", "install", "-q", "--python", python, *packages], check=True)
        (folder / "complete").touch()
    return str(python)


@contextlib.contextmanager
def running(name: str) -> Iterator[tuple[int, psutil.Process]]:
    """Run one server in a folder of its own; give its port and process once it listens."""
    server, port = SERVERS[name], free_port()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "fit.py").write_text(FIT)
        python = environment(name, server.packages)
        server.prepare(folder, python, port)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": place}
        log = (folder / "log").open("wb")
        process = subprocess.Popen(
            server.command(python, port), cwd=folder, env=env, stdout=log, stderr=log
        )
        try:
            wait_for(port, process, folder / "log")
            yield port, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(30)
            log.close()


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise SystemExit(f"the server did not start:\n{log.read_text()[-2000:]}")


class Client(asyncio.Protocol):
    """One closed-loop client over one kept connection."""

    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self.request, self.latencies = request, latencies
        self.buffer, self.stopped = b"", asyncio.get_running_loop().create_future()
        self.end = float("inf")

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.stopped.set_exception(RuntimeError(repr(self.buffer[:500])))
            self.transport.close()
            return
        now = time.perf_counter()
        self.latencies.append(now - self.sent)
        self.buffer = b""
        if now < self.end:
            self.send()
        else:
            self.stopped.set_result(None)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.stopped.done():
            self.stopped.set_exception(RuntimeError(f"connection lost: {exc}"))


async def load(
    place: tuple[int, psutil.Process], target: Target, clients: int, seconds: float
) -> tuple[float, float, float]:
    """Give requests a second, median milliseconds, and the server's CPU microseconds a request.

    The first half second is left out.
    """
    port, server = place
    length = len(target.body)
    request = (
        f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode() + target.body
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    everyone = [
        (await loop.create_connection(lambda: Client(request, latencies), "127.0.0.1", port))[1]
        for _ in range(clients)
    ]
    await asyncio.sleep(0.5)
    latencies.clear()
    used, started = sum(server.cpu_times()[:2]), time.perf_counter()
    for one in everyone:
        one.end = started + seconds
    await asyncio.gather(*(one.stopped for one in everyone))
    spent = time.perf_counter() - started
    used = sum(server.cpu_times()[:2]) - used
    count = len(latencies)
    return count / spent, statistics.median(latencies) * 1000, used / count * 1e6


def measure(targets: list[Target], repeats: int, seconds: float) -> None:
    """Load every target in turn, in short slices, while all servers are up."""
    with contextlib.ExitStack() as stack:
        names = dict.fromkeys(target.server for target in targets)
        places = {name: stack.enter_context(running(name)) for name in names}
        for number in range(repeats):
            for clients in CLIENTS:
                for target in targets:
                    figures = uvloop.run(load(places[target.server], target, clients, seconds))
                    target.results.setdefault(clients, []).append(figures)
            print(f"repeat {number + 1} of {repeats} done", file=sys.stderr)


def summarise(targets: list[Target]) -> list[dict[str, object]]:
    """Give one row per target and number of clients: medians over the repeats.

    The ratio is the median of the ratios of one repeat each, to the FastAPI that is faster there.
    """
    rows: list[dict[str, object]] = []
    for clients in CLIENTS:
        rivals = [target for target in targets if target.server == "fastapi"]
        rival = max(rivals, key=lambda one: _median(one, clients, 0), default=None)
        for target in targets:
            ratio = None
            if rival:
                pairs = zip(target.results[clients], rival.results[clients], strict=True)
                ratio = round(statistics.median(one[0] / other[0] for one, other in pairs), 2)
            rows.append(
                {
                    "target": target.name,
                    "clients": clients,
                    "rps": round(_median(target, clients, 0)),
                    "p50_ms": round(_median(target, clients, 1), 2),
                    "cpu_us": round(_median(target, clients, 2)),
                    "ratio": ratio,
                }
            )
    return rows


def _median(target: Target, clients: int, column: int) -> float:
    return statistics.median(figures[column] for figures in target.results[clients])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default="fastapi", help="of fastapi, mlserver, kserve")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    names = ["mlstead", *(name for name in arguments.peers.split(",") if name)]
    targets = [
        Target(title, name, path, body) for name in names for title, path, body in PATHS[name]
    ]
    for name in names:
        environment(name, SERVERS[name].packages)
    measure(targets, arguments.repeats, arguments.seconds)
    rows = summarise(targets)
    if arguments.json:
        print(json.dumps({"repeats": arguments.repeats, "rows": rows}))
        return
    print(f"{'server':<14}{'clients':>8}{'req/s':>8}{'p50 ms':>8}{'CPU us':>8}{'of FastAPI':>12}")
    for row in rows:
        print("{target:<14}{clients:>8}{rps:>8}{p50_ms:>8}{cpu_us:>8}{ratio!s:>12}".format(**row))


if __name__ == "__main__":
    main()
