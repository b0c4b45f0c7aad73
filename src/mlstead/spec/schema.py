"""The published JSON Schema of work and site files, for editors and other tools."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from mlstead.errors import NotFoundError
from mlstead.spec.problems import nearest
from mlstead.spec.site import Site
from mlstead.spec.work import KINDS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_FILES: Final[Mapping[str, type[BaseModel]]] = {**KINDS, "site": Site}
_STEPS: Final = ("JobStep", "SweepStep", "ServiceStep")


def json_schema(kind: str | None = None) -> dict[str, Any]:
    """Give the JSON Schema (draft 2020-12) of a work file, or of the site file.

    Args:
        kind: ``site``, or one kind of work file; None for all of those, told apart by ``kind``.

    Raises:
        NotFoundError: there is no such kind.
    """
    if kind is not None:
        if kind not in _FILES:
            raise NotFoundError(f"there is no kind {kind}", hint=nearest(kind, _FILES))
        schema = _of(kind)
        return {"$schema": DIALECT, **schema}
    definitions: dict[str, Any] = {}
    mapping = {}
    for name, model in KINDS.items():
        schema = _of(name)
        definitions |= schema.pop("$defs", {})
        definitions[model.__name__] = schema
        mapping[name] = f"#/$defs/{model.__name__}"
    return {
        "$schema": DIALECT,
        "title": "mlstead work file",
        "description": "What is to run: one object a file.",
        "type": "object",
        "required": ["mlstead", "kind", "name"],
        "properties": {
            "mlstead": {"const": 1, "description": "The version of this format."},
            "kind": {"enum": list(KINDS), "description": "What kind of work it is."},
        },
        "discriminator": {"propertyName": "kind", "mapping": mapping},
        "oneOf": [{"$ref": ref} for ref in mapping.values()],
        "$defs": definitions,
    }


def _of(kind: str) -> dict[str, Any]:
    """Give one kind's schema, as the file is written: short forms, steps left to others."""
    schema = _FILES[kind].model_json_schema(by_alias=True, mode="validation")
    schema["required"] = ["mlstead", "kind", *schema.get("required", [])]
    for name, definition in schema.get("$defs", {}).items():
        if name in _STEPS:
            # A step may have its fields from ``use:`` or from the pipeline's ``defaults:``.
            required = ["kind"] if name != "JobStep" else []
            definition["required"] = required
    _tidy(schema)
    return schema


def _tidy(part: Any) -> None:
    """Leave out titles that only repeat a name; close maps whose keys have a pattern."""
    if isinstance(part, dict):
        if "patternProperties" in part:
            part.setdefault("additionalProperties", False)
        if isinstance(part.get("title"), str) and ("type" in part or "description" in part):
            part.pop("title")
        for item in part.values():
            _tidy(item)
    elif isinstance(part, list):
        for item in part:
            _tidy(item)
