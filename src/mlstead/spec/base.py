"""The base of every spec model, and the value types its fields use."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
K = TypeVar("K")
V = TypeVar("V")


class Model(BaseModel):
    """Frozen, strict, and closed: an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _freeze(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return MappingProxyType(dict(value))


FrozenMap = Annotated[
    Mapping[K, V],
    AfterValidator(_freeze),
    PlainSerializer(lambda value: dict(value), return_type=dict),
]
"""A mapping that nobody can change once the spec is made."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Seconds = Annotated[float, BeforeValidator(lambda value: duration(value))]
"""A length of time written ``90s``, ``5m``, ``2h`` or ``1d``; held in seconds."""
Bytes = Annotated[int, BeforeValidator(lambda value: size(value))]
"""A size written with a Kubernetes suffix (``512Mi``, ``4Gi``, ``1G``); held in bytes."""
Positive = Annotated[int, Field(ge=1)]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SUFFIXES = {
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40,
    "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
}  # fmt: skip


def duration(value: object) -> float:
    """Read a duration such as ``90s``; give seconds.

    Raises:
        ValueError: it has no unit, or is not a duration.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration is a number with a unit: 90s, 5m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def size(value: object) -> int:
    """Read a size such as ``4Gi``; give bytes.

    Raises:
        ValueError: it has no unit, or is not a size.
    """
    pattern = r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|K|M|G|T)"
    match = re.fullmatch(pattern, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size is a number with a unit: 512Mi, 4Gi or 1G")
    return int(float(match[1]) * _SUFFIXES[match[2]])
