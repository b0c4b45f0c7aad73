"""``mlstead context cluster`` lists and switches what kubectl talks to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mlstead.cli.main import main

TEXT = (
    "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
    "contexts:\n- {name: a, context: {cluster: ca, user: ua}}\n"
    "- {name: lab, context: {cluster: cb, user: ub, namespace: prod}}\n"
)


@pytest.fixture
def file() -> Path:
    path = Path(os.environ["KUBECONFIG"])  # of this test (tests/conftest.py)
    path.write_text(TEXT)
    return path


def test_contexts_are_listed_with_a_star_at_the_current_one(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["context", "cluster"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        ["NAME", "CLUSTER", "USER", "NAMESPACE"], ["*", "a", "ca", "ua"],
        ["lab", "cb", "ub", "prod"],
    ]  # fmt: skip


def test_a_name_switches_and_the_namespace_stays(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["context", "cluster", "lab"]) == 0
    assert capsys.readouterr().out == "kubectl's context: lab, namespace prod\n"
    assert file.read_text() == TEXT.replace("current-context: a", "current-context: lab")


def test_a_namespace_alone_is_that_of_the_current_context(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["context", "cluster", "--namespace", "test", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["file"] == str(file)
    assert found["contexts"][0] == {
        "name": "a", "cluster": "ca", "user": "ua", "namespace": "test", "current": True,
    }  # fmt: skip


def test_an_unknown_name_is_told_with_the_nearest_and_nothing_changes(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["context", "cluster", "labb", "--namespace", "test"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [f"error: no context labb in {file}", "hint: did you mean lab?"]
    assert file.read_text() == TEXT


def test_without_a_current_context_a_name_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["context", "cluster", "--namespace", "test"]) == 2
    assert "no current context" in capsys.readouterr().err
