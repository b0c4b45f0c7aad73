"""An address is shown and recorded without what may be a secret."""

import pytest

from mlstead.errors import SpecError
from mlstead.spec.address import secretive, shown
from mlstead.spec.load import parse
from mlstead.spec.record import dump, from_record

JOB = "mlstead: 1\nkind: job\nname: a\ncommand: 'true'\n"
SHA256 = "0" * 64


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/a/b.csv", "https://h/a/b.csv"),
        ("http://bob:pw@h:80/f?token=x&day=2#pw", "http://h:80/f?token=***&day=***"),
        ("http://bob:p@w@h/f", "http://h/f"),
        ("http://bob:p/w@h/f", "http://***"),
        ("http://bob:1/w@h/f", "http://***"),
        ("http://bob:p#w@h/f", "http://***"),
        ("http://bob:p?w@h/f", "http://***"),
        ("https://h/@scope/f?pw", "https://h/@scope/f?***"),
        ("https://[::1]:8/f?a=", "https://[::1]:8/f?a="),
        ("https://h/f?part=${{ item }}&b=1", "https://h/f?part=${{ item }}&b=***"),
        ("${{ params.url }}", "${{ params.url }}"),
        ("http://${{ params.h }}:${{ params.p }}/f", "http://${{ params.h }}:${{ params.p }}/f"),
        ("s3://key:pw@bucket/f", "s3://bucket/f"),
        ("file:///tmp/a", "file:///tmp/a"),
        ("some/path?x=1", "some/path?x=1"),
    ],
)  # fmt: skip
def test_passwords_and_values_of_the_query_are_not_shown(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(expected) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/f?download=1", False),
        ("https://h/f?X-Amz-Signature=1", True),
        ("https://bob@h/f", True),
        ("fashion@1", False),
    ],
)
def test_an_address_tells_by_its_names_whether_it_has_a_secret(text: str, expected: bool) -> None:
    assert secretive(text) is expected


def test_a_record_has_no_password_and_the_work_itself_has_it() -> None:
    address = "http://bob:canary1@h/f?token=canary2"
    work = parse(f"{JOB}data: {{x: {{url: '{address}', sha256: '{SHA256}'}}}}\n")
    assert work.data["x"].url == address  # type: ignore[union-attr]
    record = dump(work)
    assert "canary" not in str(record)
    assert dump(from_record(record)) == record


def test_an_address_where_a_version_is_wanted_is_told_without_its_password() -> None:
    with pytest.raises(SpecError, match="sha256") as caught:
        parse(f"{JOB}data: {{x: 'http://bob:canary1@h/f?token=canary2'}}\n")
    assert "canary" not in str(caught.value)
