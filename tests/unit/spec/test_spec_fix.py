"""What ``mlstead fix`` does to a file."""

import pytest

from mlstead.errors import SpecError
from mlstead.spec.fix import fix
from mlstead.spec.load import parse

JOB = "kind: job\nname: j\ncommand: x\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (JOB, "mlstead: 1\n" + JOB),
        ("# hi\n\n" + JOB, "# hi\n\nmlstead: 1\n" + JOB),
        ("---\n" + JOB, "---\nmlstead: 1\n" + JOB),
        ("{kind: job, name: j, command: x}", "{mlstead: 1, kind: job, name: j, command: x}"),
        ("  kind: job\n  name: j\n  command: x\n", None),
        ("# é\nkind: job\nname: j\ncommand: x\n", None),
    ],
)
def test_a_missing_version_is_added(before: str, after: str | None) -> None:
    found = fix(before)
    assert after is None or found == after
    assert parse(found).name == "j"
    assert fix(found) == found


def test_a_file_that_has_one_is_given_back() -> None:
    assert fix("name: j\nmlstead: 1\nunknown: 1\n") == "name: j\nmlstead: 1\nunknown: 1\n"
    assert fix("{}") == "{mlstead: 1}"


@pytest.mark.parametrize("text", ["[1]", "a: [", ""])
def test_what_is_not_a_map_cannot_be_fixed(text: str) -> None:
    with pytest.raises(SpecError):
        fix(text)
