"""Doing steps: their order, what is told, secrets put in at the last moment, and errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlstead.clients.ansible_events import Event as Told
from mlstead.clients.ssh import Ssh
from mlstead.errors import PlatformError, UnavailableError, UserError
from mlstead.plan import SecretRef, Step
from mlstead.site import applying
from mlstead.site.applying import Doing, Event, resolved, run_steps
from mlstead.testing.site_values import sites

STEP = Step("Install the runtime", "h", "x", "role")


def local(name: str) -> Step:
    return Step(f"Do {name}", "laptop", name, "local")


def no_secret(name: str) -> str:
    raise AssertionError(f"nobody asked for {name}")


@pytest.fixture
def doing(tmp_path: Path) -> Callable[..., Doing]:
    def make(told: list[Event], **local: Callable[[Step], None]) -> Doing:
        ssh = Ssh(tmp_path / "ssh")
        return Doing(sites()["three"], ssh, "", no_secret, told.append, local=local)

    return make


# ---- secrets


def test_secrets_are_put_in_wherever_they_stand_and_nothing_else_changes() -> None:
    given: dict[str, Any] = {
        "a": SecretRef("p"),
        "b": [{"c": SecretRef("q")}, "<secret p>", 3, None, True, 1.5],
        "d": (SecretRef("p"), {}),
    }
    before = repr(given)
    assert resolved(given, lambda name: f"value of {name}") == {
        "a": "value of p",
        "b": [{"c": "value of q"}, "<secret p>", 3, None, True, 1.5],
        "d": ["value of p", {}],
    }
    assert repr(given) == before


def test_no_secret_is_made_that_no_step_names() -> None:
    assert resolved({"a": ["p"], "b": {"c": "registry.password"}}, no_secret) == {
        "a": ["p"],
        "b": {"c": "registry.password"},
    }


# ---- what failed


def failed(*events: Told) -> PlatformError:
    return applying._failed(STEP, events)


def test_an_error_names_machines_step_task_and_the_last_lines() -> None:
    error = failed(Told("failed", "Start it", "a", "one\ntwo"), Told("failed", "Start it", "b"))
    assert isinstance(error, UserError)
    assert str(error) == "a, b: Install the runtime: Start it\n  one\n  two"
    assert error.hint == "put it right and apply again: it goes on from there"


def test_a_machine_is_named_once_and_the_first_failure_tells() -> None:
    error = failed(Told("failed", "First", "a", "why"), Told("failed", "Second", "a", "other"))
    assert str(error) == "a: Install the runtime: First\n  why"


def test_machines_that_are_away_may_answer_later() -> None:
    away = Told("unreachable", "Start it", "a", "No route to host")
    error = failed(away)
    assert isinstance(error, UnavailableError)
    assert str(error) == "a: Install the runtime: Start it\n  No route to host"
    assert not isinstance(failed(away, Told("failed", "Start it", "b")), UnavailableError)


def test_a_failure_of_ansible_itself_names_the_machine_of_the_step() -> None:
    error = failed(Told("failed", "Ansible", "", "ERROR! no role"))
    assert str(error) == "h: Install the runtime: Ansible\n  ERROR! no role"


# ---- one after the other


def test_steps_are_done_in_order_and_each_is_told(doing: Callable[..., Doing]) -> None:
    told: list[Event] = []
    done: list[str] = []
    parts = {name: lambda step: done.append(step.title) for name in ("a", "b")}
    assert run_steps(doing(told, **parts), [local("a"), local("b")]) == 2
    assert done == ["Do a", "Do b"]
    assert [(it.kind, it.title, it.state, it.targets, it.component) for it in told] == [
        ("step", "Do a", "began", ("laptop",), "a"),
        ("step", "Do a", "done", ("laptop",), "a"),
        ("step", "Do b", "began", ("laptop",), "b"),
        ("step", "Do b", "done", ("laptop",), "b"),
    ]


def test_after_a_failure_no_step_is_begun(doing: Callable[..., Doing]) -> None:
    told: list[Event] = []

    def fail(step: Step) -> None:
        raise UserError("no room", hint="make some")

    with pytest.raises(UserError, match="no room"):
        run_steps(doing(told, a=lambda step: None, b=fail, c=fail), [*map(local, "abc")])
    assert [(it.component, it.state, it.detail) for it in told] == [
        ("a", "began", ""), ("a", "done", ""), ("b", "began", ""), ("b", "failed", "no room")
    ]  # fmt: skip


def test_a_bug_is_not_told_as_a_failure(doing: Callable[..., Doing]) -> None:
    told: list[Event] = []
    with pytest.raises(KeyError):
        run_steps(doing(told), [local("a")])
    assert [it.state for it in told] == ["began"]


def test_no_steps_change_nothing(doing: Callable[..., Doing]) -> None:
    told: list[Event] = []
    assert run_steps(doing(told), []) == 0
    assert told == []
