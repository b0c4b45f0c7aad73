"""The memory store beyond the contract: its clock, its URL, its undoing."""

from __future__ import annotations

import pytest

from mlstead.errors import UserError
from mlstead.records.base import AddRun, Run
from mlstead.records.memory import MemoryStore, create


def test_a_lease_ends_with_the_stores_clock() -> None:
    now = [100.0]
    store = MemoryStore(lambda: now[0])
    first = store.claim("a", "x", 10.0)
    assert first is not None and first.expires == 110.0
    now[0] = 109.9
    assert store.claim("a", "y", 10.0) is None
    now[0] = 110.0
    second = store.claim("a", "y", 10.0)
    assert second is not None and second.fence == first.fence + 1


def test_a_lease_from_the_future_is_not_believed() -> None:
    now = [100.0]
    store = MemoryStore(lambda: now[0])
    first = store.claim("a", "x", 10.0)
    now[0] = 50.0  # the clock was set back
    second = store.claim("a", "y", 10.0)
    assert first is not None and second is not None and second.fence > first.fence


def test_runs_are_dated_by_the_stores_clock() -> None:
    store = MemoryStore(lambda: 7.0)
    store.commit([AddRun(Run("a", "p", "job", "a"))])
    assert store.run("a").created == 7.0


def test_only_its_own_url_opens_it() -> None:
    with pytest.raises(UserError, match="memory:"):
        create("sqlite:///x")
