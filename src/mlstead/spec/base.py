"""The base of every spec model, and the value types its fields use."""

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Final, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    StringConstraints,
    ValidationInfo,
)

NAME_PATTERN = r"^[a-z][a-z0-9-]{0,39}$"
SLOT_PATTERN = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
VARIABLE_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"
LOGIN_PATTERN = r"^[a-z_][a-z0-9_-]{0,31}$"
FINGERPRINT_PATTERN = r"^SHA256:[A-Za-z0-9+/]{43}$"
FOLDER_PATTERN = r"^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$"
MINOR_PATTERN = r"^1\.[0-9]{2}$"
APP_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
DURATION_PATTERN = r"^([0-9]+(?:\.[0-9]+)?)([smhd])$"
SIZE_PATTERN = r"^([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|k|K|M|G|T|P)$"

PATTERN_WORDS: Final = {
    NAME_PATTERN: "a name starts with a-z and has at most 40 of a-z, 0-9 and -",
    SLOT_PATTERN: "starts with a letter and has at most 64 letters, digits, _ and -",
    VARIABLE_PATTERN: "starts with a letter or _ and has only letters, digits and _",
    LOGIN_PATTERN: "a login starts with a-z or _ and has at most 32 of a-z, 0-9, _ and -",
    FINGERPRINT_PATTERN: "a fingerprint is SHA256: and 43 characters, as ssh-keygen -l prints it",
    FOLDER_PATTERN: "an absolute path of letters, digits, '.', '_' and '-'",
    MINOR_PATTERN: 'a minor version of Kubernetes, such as "1.36"',
    APP_PATTERN: "an app's name has a-z, 0-9 and _",
}
"""What each pattern asks for, in words; error messages are made of it."""

FROM_RECORD: Final = "record"
"""The validation context under which durations and sizes are plain numbers."""

K = TypeVar("K")
V = TypeVar("V")


class Model(BaseModel):
    """Frozen, strict, and closed: an unknown field is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        defer_build=True,
        validate_by_alias=True,
        validate_by_name=True,
        protected_namespaces=(),
    )


class FrozenDict(dict[K, V]):
    """A dict that refuses change, so that JSON, copies and comparisons work as with a dict."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a spec cannot be changed; make a new one")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return (FrozenDict, (dict(self),))


def freeze(value: object) -> Any:
    """Copy a JSON-like value so that nobody can change it: lists become tuples.

    Raises:
        ValueError: it holds something that JSON cannot say.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that JSON can hold")
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("the keys of a map must be texts")
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    raise ValueError(f"{type(value).__name__} is not a JSON value")


def shape(value: object) -> str | None:
    """Name the shape of a value; the tag by which a field of several shapes is read."""
    if isinstance(value, bool):
        return "<flag>"
    if isinstance(value, int | float):
        return "<number>"
    if isinstance(value, str):
        return "<text>"
    if isinstance(value, list | tuple):
        return "<list>"
    return "<map>" if isinstance(value, Mapping | BaseModel) else None


def by_shape(words: str) -> Discriminator:
    """Choose the branch of a union by the shape of the value; words say what is allowed."""
    return Discriminator(shape, custom_error_type="shape", custom_error_message=f"must be {words}")


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SUFFIXES = {
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
    "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
}  # fmt: skip


def duration(value: object) -> float:
    """Read a duration such as ``90s`` (or a timedelta); give seconds.

    Raises:
        ValueError: it has no unit, or is not a duration.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    match = re.fullmatch(DURATION_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be a number with a unit: 90s, 5m, 2h or 1d; found {value}")
    return float(match[1]) * _UNITS[match[2]]


def size(value: object) -> int:
    """Read a size such as ``4Gi``; give bytes.

    Raises:
        ValueError: it has no unit, or is not a size.
    """
    match = re.fullmatch(SIZE_PATTERN, value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"must be a number with a unit: 512Mi, 4Gi or 1G; found {value}")
    return round(float(match[1]) * _SUFFIXES[match[2]])


def _recorded(value: object, info: ValidationInfo) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and info.context == FROM_RECORD


def _seconds(value: object, info: ValidationInfo) -> object:
    return value if _recorded(value, info) else duration(value)


def _bytes(value: object, info: ValidationInfo) -> object:
    return value if _recorded(value, info) else size(value)


FrozenMap = Annotated[Mapping[K, V], AfterValidator(FrozenDict)]
"""A mapping that nobody can change once the spec is made."""
List = Annotated[tuple[V, ...], Strict(False)]
"""A tuple that may be written as a list; its items stay strict."""
Value = Annotated[Any, AfterValidator(freeze)]
"""Anything JSON can say, frozen."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Slot = Annotated[str, StringConstraints(pattern=SLOT_PATTERN)]
"""The name of an input or output: a folder, and part of an expression's path."""
Variable = Annotated[str, StringConstraints(pattern=VARIABLE_PATTERN)]
"""The name of a parameter or of an environment variable."""
Seconds = Annotated[
    float,
    BeforeValidator(
        _seconds, json_schema_input_type=Annotated[str, Field(pattern=DURATION_PATTERN)]
    ),
]
"""A length of time written ``90s``, ``5m``, ``2h`` or ``1d``; held in seconds."""
Bytes = Annotated[
    int,
    BeforeValidator(_bytes, json_schema_input_type=Annotated[str, Field(pattern=SIZE_PATTERN)]),
]
"""A size written with a Kubernetes suffix (``512Mi``, ``4Gi``, ``1G``); held in bytes."""
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
