"""A namespace and an S3 server for each file of tests, on the cluster of `make cluster-up`."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from moto.server import ThreadedMotoServer
from tests.cluster import bed
from tests.cluster.base_image import login_of_bed
from tests.cluster.book import Book
from tests.contract.s3_server import KEY, SECRET, S3Server
from tests.local.front_door import Door, environment

from mlstead.clients.kubernetes import Cluster
from mlstead.clients.kubernetes_login import read
from mlstead.engines.base import Engine, Place
from mlstead.engines.kubernetes import create
from mlstead.engines.local.engine import LocalEngine
from mlstead.testing import engine_values
from mlstead.testing.engine_contract import Make

engine_values.DEADLINE = 240.0  # Kubernetes waits ten seconds before a second try, then twenty
engine_values.LOOK = 0.1


@dataclass(frozen=True)
class Ground:
    """Where tests work.

    Attributes:
        kubeconfig: of the cluster; namespace: one of their own, with the standard "restricted".
        image: a small one with Python; bucket: theirs; s3: its server, as pods reach it.
    """

    kubeconfig: Path
    cluster: Cluster
    namespace: str
    image: str
    bucket: str
    s3: S3Server

    def options(self) -> dict[str, str]:
        """Give the options of a context."""
        return {
            "kubeconfig": str(self.kubeconfig),
            "namespace": self.namespace,
            "image": self.image,
        }


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Give an S3 server on the machine's end of the lab's network, where pods reach it."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(bed.GATEWAY, port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield S3Server(f"http://{bed.GATEWAY}:{port}")
    server.stop()


@pytest.fixture
def make(ground: Ground, tmp_path: Path) -> Iterator[Make]:
    """Give a maker of engines of one home, which is a new one for each test."""
    made: list[Engine] = []

    def one() -> Engine:
        location = f"s3://{ground.bucket}/work"
        place = Place(tmp_path, "cluster", ground.options(), location, ground.s3.endpoint)
        made.append(create(place))
        return made[-1]

    yield one
    for engine in made:
        engine.close()


@pytest.fixture
def book() -> Iterator[Book]:
    """Give a book that programs in pods can write in."""
    made = Book()
    yield made
    made.close()


@pytest.fixture
def door(ground: Ground, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """Give the command line on a new home whose current context is the cluster."""
    home.mkdir(parents=True, exist_ok=True)
    login = login_of_bed()
    authority = home.parent / "registry.pem"
    authority.write_text(login.authority, encoding="utf-8")
    monkeypatch.setenv("MLSTEAD_REGISTRY_PASSWORD", login.password)
    monkeypatch.setenv("MLSTEAD_TRACKING", "off")
    made = Door(home, {**environment(home), "MLSTEAD_REGISTRY_PASSWORD": login.password})
    options = [f"--{name.replace('_', '-')}={value}" for name, value in ground.options().items()]
    made.good(
        "context", "add", "cluster", "--engine=kubernetes", *options,
        f"--artifacts=s3://{ground.bucket}/{home.parent.name}", f"--endpoint={ground.s3.endpoint}",
        f"--registry={login.address}/tests/{home.parent.name}", f"--registry-user={login.user}",
        f"--registry-authority={authority}",
    )  # fmt: skip
    made.good("context", "use", "cluster")
    yield made
    LocalEngine(home).shutdown()


@pytest.fixture(scope="module")
def ground(s3_server: S3Server) -> Iterator[Ground]:
    """Give a new namespace and bucket; both go when the file's tests are done."""
    os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    path = bed.kubeconfig()
    cluster = Cluster(read(path))
    name = f"test-{uuid.uuid4().hex[:8]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.create("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
    yield Ground(path, cluster, name, bed.image(), s3_server.bucket(), s3_server)
    cluster.delete(f"/api/v1/namespaces/{name}")
    cluster.close()
