"""What a context says of a cluster is checked, and each home keeps a token of its own."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from mlstead.engines.kubernetes.settings import OPTIONS, Settings, settings_of
from mlstead.errors import UserError


def make(home: Path, name: str = "lab", artifacts: str = "s3://b/p", **options: str) -> Settings:
    return settings_of(home, name, options, artifacts, "http://s3")


def test_all_options_are_taken(tmp_path: Path) -> None:
    options: dict[str, Any] = {name: f"x-{name.replace('_', '-')}" for name in OPTIONS}
    found = make(tmp_path, **options)
    assert {name: getattr(found, name) for name in OPTIONS} == options
    assert (found.artifacts, found.endpoint) == ("s3://b/p", "http://s3")


def test_a_token_is_made_once_for_each_context_of_a_home(tmp_path: Path) -> None:
    one, again, other = make(tmp_path), make(tmp_path), make(tmp_path, "other")
    assert one.token == again.token != other.token
    assert re.fullmatch(r"[0-9a-f]{8}", one.token)
    assert one.folder.stat().st_mode & 0o077 == 0


def test_many_at_once_agree_on_the_token(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len({it.token for it in pool.map(lambda _: make(tmp_path), range(16))}) == 1
    assert [it.name for it in (tmp_path / "kubernetes" / "lab").iterdir()] == ["id"]


def test_an_option_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no option 'imag'") as error:
        make(tmp_path, imag="x")
    assert "pod_endpoint" in error.value.hint


@pytest.mark.parametrize("namespace", ["Team", "-a", "a" * 64, "a/b", "a b", "a\n"])
def test_what_cannot_be_a_namespace_is_refused(tmp_path: Path, namespace: str) -> None:
    with pytest.raises(UserError, match="cannot be a namespace"):
        make(tmp_path, namespace=namespace)


@pytest.mark.parametrize("artifacts", ["", "/folder", "gs://b"])
def test_pods_need_a_bucket(tmp_path: Path, artifacts: str) -> None:
    with pytest.raises(UserError, match="it names no bucket") as error:
        make(tmp_path, artifacts=artifacts)
    assert "--artifacts s3://" in error.value.hint
