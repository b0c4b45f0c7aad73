"""What Ansible is given and what it tells, without Ansible: files, events, hidden details."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml import SafeLoader, load  # type: ignore[import-untyped]

from mlstead.clients.ansible_events import Event, Listener, Outcome
from mlstead.clients.ansible_play import INVENTORY, LISTENS, TARGETS, Machine, Play, write, yaml

CANARY = "canary-5up3rs3cret"
HEAD = Machine("head", "10.0.0.1", 22, "ann", "~/.ssh/id", ("-o", "Port=22"), {"x_size": 3})
WORKER = Machine("w1", "10.0.0.2", 2222, "", "", (), {"x_password": CANARY})


def event(kind: str, stdout: str = "", **data: Any) -> dict[str, Any]:
    return {"event": kind, "stdout": stdout, "event_data": data}


def listen(*events: dict[str, Any], status: str = "successful", code: int = 0) -> list[Any]:
    """Give what is told of some events, and as the last of all how it ended."""
    told: list[Any] = []
    listener = Listener(told.append)
    assert not any(listener.handle(one) for one in events)
    return [*told, listener.outcome(status, code)]


def failed(**result: Any) -> Event:
    given = event("runner_on_failed", task="Do it", host="h", res=result)
    told, outcome = listen(given, status="failed", code=2)
    assert outcome == Outcome((told,), {})
    assert (told.state, told.task, told.host) == ("failed", "Do it", "h")
    assert isinstance(told, Event)
    return told


# ---- what it is given


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    write(tmp_path, Play("x", (HEAD,), (WORKER,), "remove"))
    names = (INVENTORY, "project/play.yml")
    return {name: json.loads((tmp_path / name).read_text()) for name in names}


def test_the_runner_is_told_by_a_file_how_often_to_ask_whether_to_end(tmp_path: Path) -> None:
    write(tmp_path, Play("x", (HEAD,)))
    assert json.loads((tmp_path / "env/settings").read_text()) == {"pexpect_timeout": LISTENS}


def test_the_play_is_one_role_on_its_machines_only(files: dict[str, Any]) -> None:
    (play,) = files["project/play.yml"]
    (task,) = play["tasks"]
    assert task["ansible.builtin.include_role"] == {"name": "x", "tasks_from": "remove"}
    assert (play["hosts"], play["become"], play["gather_facts"]) == (TARGETS, True, False)
    everything = files[INVENTORY]["all"]
    assert list(everything["hosts"]) == ["head", "w1"]
    assert everything["children"] == {TARGETS: {"hosts": {"head": None}}}


def test_no_machine_can_be_called_like_the_group() -> None:
    assert "_" in TARGETS


def test_a_machine_is_reached_by_its_address_login_and_key(files: dict[str, Any]) -> None:
    hosts = files[INVENTORY]["all"]["hosts"]
    assert hosts["head"] == {
        "ansible_host": "10.0.0.1",
        "ansible_port": 22,
        "ansible_ssh_common_args": "-o Port=22",
        "ansible_user": "ann",
        "ansible_ssh_private_key_file": "~/.ssh/id",
        "x_size": 3,
    }
    assert not {"ansible_user", "ansible_ssh_private_key_file"} & set(hosts["w1"])


@pytest.mark.parametrize(
    "words",
    [
        ("-o", 'UserKnownHostsFile="/a b/known" ~/.ssh/known_hosts'),
        ("-o", 'IdentityFile="/home/o\'neil/$HOME/`id`"'),
        ("-o", 'ControlPath="/a\\\\b/%%h"', "-o", "RemoteCommand=none"),
        ("-o", "ProxyCommand=none", ""),
    ],
)
def test_the_words_for_ssh_arrive_as_they_are(tmp_path: Path, words: tuple[str, ...]) -> None:
    write(tmp_path, Play("x", (Machine("h", "10.0.0.1", 22, "", "", words),)))
    host = json.loads((tmp_path / INVENTORY).read_text())["all"]["hosts"]["h"]
    assert tuple(shlex.split(host["ansible_ssh_common_args"])) == words


def test_the_settings_of_the_user_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, Play("x", (HEAD,)))
    assert (tmp_path / "ansible.cfg").read_text() == "[defaults]\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9).map(lambda x: round(x, 3))
    | st.text(max_size=10) | st.text("{%#} a'\"\\\n", max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)  # fmt: skip


class _Loader(SafeLoader):  # type: ignore[misc]
    """Reads YAML as Ansible does."""


_Loader.add_constructor("!unsafe", lambda loader, node: f"unsafe {loader.construct_scalar(node)}")


def expected(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: expected(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expected(item) for item in value]
    if isinstance(value, str) and any(mark in value for mark in ("{{", "{%", "{#")):
        return f"unsafe {value}"
    return value


@settings(deadline=None)
@given(JSON)
def test_values_arrive_as_they_are_and_none_is_a_template(value: Any) -> None:
    assert load(yaml(value), _Loader) == expected(value)


def test_a_template_in_a_value_is_marked_as_text() -> None:
    assert yaml({"a": ["{{ 1 + 1 }}", "{ }"], "{{": True}) == (
        '{"a": [!unsafe "{{ 1 + 1 }}", "{ }"], "{{": true}'
    )


def test_secrets_of_a_machine_are_not_shown() -> None:
    assert CANARY not in repr(WORKER)
    assert CANARY not in repr(Play("x", (WORKER,)))


# ---- what it tells


def test_tasks_are_told_as_they_begin_and_end() -> None:
    *told, outcome = listen(
        event("playbook_on_play_start", "PLAY [x]"),
        event("playbook_on_task_start", "TASK [x : Do it]", task="Do it"),
        event("runner_on_start", task="Do it", host="a"),
        event("runner_on_ok", task="Do it", host="a", res={"changed": True}),
        event("runner_on_ok", task="Do it", host="b", res={"changed": False}),
        event("runner_on_skipped", task="Do it", host="c"),
        event("runner_on_ok", task="Do more", host="a", res={"changed": True}),
    )
    assert [(it.state, it.host) for it in told] == [
        ("began", ""), ("changed", "a"), ("ok", "b"), ("skipped", "c"), ("changed", "a")
    ]  # fmt: skip
    assert outcome == Outcome((), {"a": 2})


def test_a_failure_that_is_passed_over_is_none() -> None:
    given = event("runner_on_failed", task="t", host="a", ignore_errors=True, res={"msg": "no"})
    told, outcome = listen(given)
    assert (told.state, told.detail) == ("ok", "")
    assert outcome == Outcome((), {})


@pytest.mark.parametrize("state", ["unreachable", "failed"])  # failed: while it copied files
def test_a_machine_that_is_away_is_a_failure_with_its_words(state: str) -> None:
    message = "Failed to connect to the host via ssh: No route to host"
    given = event(f"runner_on_{state}", task="t", host="a", res={"msg": message})
    told, outcome = listen(given, status="failed", code=4)
    assert told == Event("unreachable", "t", "a", message)
    assert outcome.failures == (told,)


def test_the_last_lines_of_what_failed_are_kept() -> None:
    told = failed(stdout="\n".join(map(str, range(50))), stderr="why\n\n", msg="non-zero return")
    assert told.detail.splitlines() == [*map(str, range(32, 50)), "why", "non-zero return"]


def test_items_of_a_loop_that_failed_say_why() -> None:
    results = [{"failed": True, "msg": "one"}, {"failed": False, "msg": "two"}, "odd", None]
    assert failed(msg="All items completed", results=results).detail.splitlines() == [
        "All items completed",
        "one",
    ]


def test_an_include_that_failed_says_its_reason() -> None:
    assert failed(reason="the role 'x' was not found").detail == "the role 'x' was not found"


def test_a_failure_without_a_word_is_still_one() -> None:
    assert failed().detail == ""
    assert failed(stdout=None, msg=None, results=None).detail == ""


def test_nothing_is_said_of_what_a_task_with_secrets_wrote() -> None:
    told = failed(censored="the output has been hidden", stdout=CANARY, msg=CANARY, changed=False)
    assert told.detail == "(hidden: this task handles secrets)"
    results = [{"failed": True, "censored": "hidden", "msg": CANARY}]
    assert CANARY not in failed(msg="One or more items failed", results=results).detail


def test_what_succeeds_never_has_a_detail() -> None:
    given = event("runner_on_ok", task="t", host="a", res={"stdout": CANARY, "msg": CANARY})
    assert CANARY not in repr(listen(given))


def test_a_run_that_fails_before_any_task_says_what_ansible_wrote() -> None:
    words = [event("verbose", f"line {at}\n") for at in range(30)]
    (outcome,) = listen(*words, event("error", "ERROR! no role x"), status="failed", code=1)
    (failure,) = outcome.failures
    assert (failure.state, failure.host) == ("failed", "")
    assert failure.detail.splitlines() == [f"line {at}" for at in range(11, 30)] + [
        "ERROR! no role x"
    ]


@pytest.mark.parametrize(("status", "code"), [("failed", 0), ("timeout", 254), ("successful", 2)])
def test_a_run_that_fails_without_a_word_is_a_failure(status: str, code: int) -> None:
    (outcome,) = listen(status=status, code=code)
    assert [it.detail for it in outcome.failures] == [status]


def test_a_run_that_was_ended_is_told_as_that() -> None:
    told, outcome = listen(
        event("runner_on_ok", task="t", host="a", res={"changed": True}),
        status="canceled",
        code=254,
    )
    assert told.state == "changed"
    assert outcome == Outcome((), {"a": 1}, cancelled=True)


@pytest.mark.parametrize("given", [{}, {"event": "verbose"}, {"event": "x", "event_data": {}}])
def test_events_without_content_are_passed_over(given: dict[str, Any]) -> None:
    assert listen(given) == [Outcome((), {})]
