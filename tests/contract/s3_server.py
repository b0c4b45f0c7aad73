"""An S3 server on a loopback port, for tests of everything that speaks S3."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import boto3
from moto.server import ThreadedMotoServer

KEY = SECRET = "testing"
_boto3: Any = boto3


@dataclass(frozen=True)
class S3Server:
    """Where the server answers."""

    endpoint: str

    def bucket(self) -> str:
        """Make a new bucket; give its name."""
        name = f"b{uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def client(self) -> Any:
        """Give a plain S3 client, to look behind the store's back."""
        return _boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
        )


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Run a server until the block ends."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}")
    finally:
        server.stop()
