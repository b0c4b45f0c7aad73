"""Objects in an S3 server on loopback, for the parts of the engine that read and write them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.s3_server import KEY, SECRET, S3Server, s3_server

from mlstead.clients.objects import Objects


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def objects(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    """Give a bucket of its own."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    found = Objects(f"s3://{server.bucket()}/work", server.endpoint)
    yield found
    found.close()
