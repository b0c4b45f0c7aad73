"""Model folders, services in this process, and servers as real processes, for the serving tests."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlstead.serving.app import App
from mlstead.serving.config import ServerConfig
from mlstead.serving.guard import Guard
from mlstead.serving.service import Service, load_service

PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Asker:
    """Asks an ASGI application without sockets."""

    app: App
    service: Service
    host: str = "127.0.0.1:8000"
    received: int = field(default=0)

    def __call__(
        self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None
    ) -> Heard:
        return asyncio.run(self.ask(method, path, body, headers or {}))

    async def ask(
        self, method: str, path: str, body: Any = b"", headers: dict[str, str] | None = None
    ) -> Heard:
        parts: Sequence[bytes] = body if isinstance(body, list) else [_bytes(body)]
        given = {"host": self.host, **(headers or {})}
        if len(parts) == 1:
            given.setdefault("content-length", str(len(parts[0])))
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode("latin-1").partition(b"?")[0],
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        incoming = iter(enumerate(parts, start=1))
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            number, part = next(incoming)
            self.received += len(part)
            return {"type": "http.request", "body": part, "more_body": number < len(parts)}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        start, content = sent
        got = {name.decode(): value.decode() for name, value in start["headers"]}
        assert int(got["content-length"]) == len(content["body"])
        return Heard(start["status"], got, content["body"])


def _bytes(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


@dataclass(slots=True)
class Folders:
    """Makes model folders and code folders under one folder."""

    root: Path
    made: int = 0

    def new(self) -> Path:
        self.made += 1
        folder = self.root / f"model{self.made}"
        folder.mkdir()
        return folder

    def scores(self, weights: Any, card: dict[str, Any] | None = None) -> Path:
        """An ONNX model: float rows times weights give ``scores``."""
        matrix = np.asarray(weights, dtype=np.float32)
        rows, columns = matrix.shape
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["scores"])],
            "scores",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", columns])],
            [numpy_helper.from_array(matrix, "w")],
        )
        return self.onnx(graph, card)

    def onnx(self, graph: Any, card: dict[str, Any] | None = None) -> Path:
        folder = self.new()
        opset = [helper.make_opsetid("", 17)]
        onnx.save(
            helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx"
        )
        if card is not None:
            (folder / "mlstead-model.json").write_text(json.dumps(card))
        return folder

    def card(self, **card: Any) -> Path:
        folder = self.new()
        (folder / "mlstead-model.json").write_text(json.dumps(card))
        return folder

    def code(self, text: str, name: str) -> Path:
        folder = self.new()
        (folder / f"{name}.py").write_text(text)
        return folder


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
def forget_modules() -> Iterator[None]:
    """Undo what loading a user's code does to this process."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("user_"):
            del sys.modules[name]


Make = Callable[..., Asker]


@pytest.fixture
def serve(forget_modules: None) -> Iterator[Make]:
    """Make a service of model folders, in this process: ``serve({"v1": folder}, limits=…)``."""
    made: list[Asker] = []

    def make(versions: dict[str, Path], **settings: Any) -> Asker:
        told = {
            "name": "fashion",
            "versions": {
                name: {"path": str(folder), "number": number}
                for number, (name, folder) in enumerate(versions.items(), start=1)
            },
            **settings,
        }
        config = ServerConfig.model_validate_json(json.dumps(told))
        service = load_service(config)
        made.append(Asker(App(service, Guard(config.host, config.hosts), "0"), service))
        return made[-1]

    yield make
    for asker in made:
        asker.service.close()


@dataclass(slots=True)
class Process:
    """One server process and what its ready file says."""

    popen: "subprocess.Popen[bytes]"
    ready_file: Path
    log: Path

    def ready(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.ready_file.exists():
                told: dict[str, Any] = json.loads(self.ready_file.read_text())
                if told["pid"] == self.popen.pid:
                    return told
            if self.popen.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def wait(self) -> int:
        return self.popen.wait(PATIENCE)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start ``python -m mlstead.serving``; it is gone after the test."""
    started: list[Process] = []

    def launch(versions: dict[str, Path], **settings: Any) -> Process:
        number = len(started)
        ready_file = tmp_path / f"ready{number}.json"
        told = {
            "name": "fashion",
            "ready_file": str(ready_file),
            "versions": {name: {"path": str(folder)} for name, folder in versions.items()},
            **settings,
        }
        config = tmp_path / f"config{number}.json"
        config.write_text(json.dumps(told))
        log = tmp_path / f"log{number}"
        with log.open("wb") as stream:
            popen = subprocess.Popen(
                [sys.executable, "-m", "mlstead.serving", str(config)], stdout=stream, stderr=stream
            )
        started.append(Process(popen, ready_file, log))
        return started[-1]

    yield launch
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.wait(PATIENCE)
