"""What records keep of a spec."""

import pytest

from mlstead.errors import SpecError
from mlstead.spec.record import dump, from_record
from mlstead.spec.work import Job


def test_seconds_and_bytes_are_plain_numbers_in_a_record() -> None:
    record = dump(Job(name="j", command="x", timeout="2h"))  # type: ignore[arg-type]
    assert record["timeout"] == 7200.0
    assert record["resources"]["memory"] == 2 << 30
    assert record["retries"]["for"] == ["error", "oom", "lost"]
    assert from_record(record).kind == "job"


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "record: kind None is not known"),
        ({"kind": "dance"}, "record: kind 'dance' is not known"),
        ({"kind": "job", "name": "j"}, "record: command: is required"),
        ({"kind": "job", "name": "j", "command": "x", "timeout": True}, "record: timeout: must"),
    ],
)
def test_what_is_no_record_is_refused(record: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        from_record(record)
    assert message in str(caught.value)


def test_a_bare_number_is_refused_everywhere_else() -> None:
    with pytest.raises(ValueError, match="number with a unit"):
        Job(name="j", command="x", timeout=7200)
