"""A work as JSON and back: what the records keep."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from mlstead.errors import SpecError
from mlstead.spec.base import FROM_RECORD, Model
from mlstead.spec.fields import problems_of
from mlstead.spec.problems import line, spec_error
from mlstead.spec.work import KINDS, Work


def dump(work: Model) -> dict[str, Any]:
    """Give a work, or a part of one, as JSON: every field, seconds and bytes as numbers."""
    return work.model_dump(mode="json", by_alias=True)


def from_record(record: Mapping[str, Any]) -> Work:
    """Read back what ``dump`` gave.

    Raises:
        SpecError: it is not a record of a work this version can read.
    """
    kind = record.get("kind")
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise SpecError(f"record: kind {kind!r} is not known")
    try:
        work = model.model_validate(dict(record), context=FROM_RECORD, by_alias=True, by_name=False)
    except ValidationError as error:
        found = problems_of(model, error)
        raise spec_error([line("record", it.path, it.message, it.hint) for it in found]) from error
    return work  # type: ignore[return-value]
