"""What keeps a plan from being carried out: every machine is named, with what to do."""

from __future__ import annotations

import pytest

from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.plan import Facts
from mlstead.site.driving import Planned, refuse
from mlstead.site.preflight import Finding

AWAY = {name: UnavailableError(f"{name}: does not answer", hint="on?") for name in ("a", "b")}
DIRTY = Finding("c", "docker is here", "remove it")
MILD = Finding("c", "uses swap", "it will be turned off", stops=False)


def planned(problems: dict[str, PlatformError], *findings: Finding) -> Planned:
    return Planned((), findings, problems, (), Facts())


def test_what_only_people_should_know_stops_nothing() -> None:
    refuse(planned({}, MILD))
    assert planned({}, MILD).stop is None


def test_machines_that_are_away_are_all_named_and_may_answer_later() -> None:
    with pytest.raises(UnavailableError) as caught:
        refuse(planned({**AWAY}))
    assert str(caught.value) == "a: does not answer\nb: does not answer"
    assert caught.value.hint == "on?"


def test_what_must_be_put_right_stands_beside_those_away_each_with_its_hint() -> None:
    with pytest.raises(UserError) as caught:
        refuse(planned({"a": AWAY["a"]}, MILD, DIRTY))
    assert str(caught.value) == "a: does not answer (on?)\nc: docker is here (remove it)"
    assert caught.value.hint == ""


def test_a_login_that_is_refused_does_not_answer_later() -> None:
    refused = UserError("a: may not log in", hint="key")
    assert isinstance(planned({"a": refused, "b": AWAY["b"]}).stop, UserError)
