"""The published schema: every field documented, and what is wrong does not fit."""

import functools
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from mlstead.errors import NotFoundError
from mlstead.spec.fields import names_of
from mlstead.spec.schema import json_schema
from mlstead.spec.work import KINDS


@functools.cache
def whole_schema() -> Draft202012Validator:
    return Draft202012Validator(json_schema())


def objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        if isinstance(part.get("properties"), dict):
            yield part
        for item in part.values():
            yield from objects(item)
    elif isinstance(part, list):
        for item in part:
            yield from objects(item)


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(json_schema())
    for kind in KINDS:
        Draft202012Validator.check_schema(json_schema(kind))


def test_every_field_and_every_object_is_described() -> None:
    found = list(objects(json_schema()))
    assert len(found) > 25
    for each in found:
        assert each["description"]
        for name, field in each["properties"].items():
            assert field.get("description"), name


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_of_a_kind_has_its_fields(kind: str) -> None:
    schema = json_schema(kind)
    assert set(schema["properties"]) == set(names_of(KINDS[kind]))
    assert {"mlstead", "kind", "name"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"mlstead": 1, "kind": "job", "name": "a"},
        {"mlstead": 1, "kind": "jobb", "name": "a", "command": "x"},
        {"mlstead": 1, "kind": "job", "name": "A", "command": "x"},
        {"mlstead": 1, "kind": "job", "name": "a", "command": "x", "memory": "4Gi"},
        {"mlstead": 1, "kind": "job", "name": "a", "command": "x", "timeout": 90},
        {"mlstead": 1, "kind": "job", "name": "a", "command": "x", "data": {"../x": "d@1"}},
        {"mlstead": 2, "kind": "job", "name": "a", "command": "x"},
        {"mlstead": 1, "kind": "pipeline", "name": "a", "steps": {}},
        {"mlstead": 1, "kind": "pipeline", "name": "a", "steps": {"s": {"kind": "x"}}},
    ],
)
def test_what_is_wrong_does_not_fit(content: dict[str, Any]) -> None:
    assert not whole_schema().is_valid(content)


def test_an_unknown_kind_is_not_found() -> None:
    with pytest.raises(NotFoundError) as caught:
        json_schema("sweap")
    assert caught.value.hint == "did you mean sweep?"
