"""The server's configuration file: what to serve, where, and within which limits.

The file is JSON, written by whoever starts the server::

    {"name": "fashion", "host": "127.0.0.1", "port": 0, "ready_file": "/…/ready.json",
     "versions": {"v3": {"path": "/folder/of/model", "runtime": "onnx", "number": 3}},
     "traffic": {"v3": 100}, "code": "/folder or empty", "params": {},
     "hosts": [], "limits": {"body": 33554432, "queue": 128, "drain": 15}}

``hosts`` names further host names under which clients may reach the server; ``limits.body`` is
in bytes, ``limits.queue`` in requests inside the server at one time, ``limits.drain`` in seconds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic import model_validator as check

from mlstead.errors import NotFoundError, SpecError

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
M = TypeVar("M", bound="Record")


class Record(BaseModel):
    """Frozen, strict and closed, as every description in a file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Version(Record):
    """One model version: its folder, its runtime (empty: as the folder says) and its number.

    ``code`` and ``params`` are given where they are not those of the service: the version was made
    with others. Without an ``optional`` version the server serves the rest, should it not load.
    """

    path: str
    runtime: str = ""
    number: int = 0
    code: str = ""
    params: Mapping[str, Any] | None = None
    optional: bool = False


class Limits(Record):
    """How much the server takes on before it refuses."""

    body: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    queue: Annotated[int, Field(ge=1)] = 128
    drain: Annotated[float, Field(ge=0)] = 15.0


class ServerConfig(Record):
    """Everything one server process is told."""

    name: Label
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    ready_file: str = ""
    versions: Mapping[Label, Version]
    traffic: Mapping[Label, Annotated[int, Field(ge=0, le=100)]] = Field(default_factory=dict)
    code: str = ""
    params: Mapping[str, Any] = Field(default_factory=dict)
    hosts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    limits: Limits = Limits()

    @check(mode="after")
    def _consistent(self) -> Self:
        unknown = sorted(set(self.traffic) - set(self.versions))
        if not self.versions:
            raise ValueError("versions is empty")
        if unknown:
            raise ValueError(f"traffic names {unknown[0]!r}, which is not one of versions")
        if self.traffic and not any(self.traffic.values()):
            raise ValueError("traffic gives every version 0")
        if not self.traffic and len(self.versions) > 1:
            raise ValueError("several versions need traffic")
        return self

    def shares(self) -> dict[str, int]:
        """Give each version's share of unversioned requests."""
        return dict(self.traffic) or dict.fromkeys(self.versions, 100)


def read(model: type[M], path: Path) -> M:
    """Read one JSON description.

    Raises:
        NotFoundError: there is no such file.
        SpecError: it is not JSON, or a field of it is wrong.
    """
    try:
        return model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise NotFoundError(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from error
