"""What every record store promises of cursors, versions, links, messages and leases."""

import time

import pytest

from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.records.base import (
    AddCache,
    AddLinks,
    AddRun,
    AddVersion,
    CacheEntry,
    DropVersion,
    Link,
    Outgoing,
    PutOutgoing,
    SetAlias,
    SetCursor,
    SetRun,
    Store,
)
from mlstead.testing.store_crowd import a_run, wait_for
from mlstead.testing.store_values import fields_of, version


class KeepingContract:
    """Cursors, versions, links, cache, messages, leases; see ``StoreContract``."""

    # ---- cursors, versions, links, cache, messages -----------------------------------------

    def test_a_cursor_moves_only_from_where_it_was(self, store: Store) -> None:
        assert store.cursor("events") == ""
        store.commit([SetCursor("events", "", "1")])
        store.commit([SetCursor("events", "1", "2"), SetCursor("other", "", "x")])
        for was in ("", "1", "3"):
            with pytest.raises(ConflictError):
                store.commit([SetCursor("events", was, "9")])
        assert store.cursor("events") == "2"
        assert store.cursors("ev") == {"events": "2"}
        assert store.cursors("") == {"events": "2", "other": "x"}

    def test_a_version_takes_the_next_number(self, store: Store) -> None:
        first = version(1, size=2**40, files=3, run_id="r", output="o", source="s")
        store.commit([AddVersion(first)])
        for number in (0, 1, 3):
            with pytest.raises(ConflictError, match="the next number is 2"):
                store.commit([AddVersion(version(number))])
        meta = {"classes": [1], "nested": {"a": None}}
        store.commit([AddVersion(version(2, digest="e", meta=meta, created=5.0))])
        store.commit([AddVersion(version(1, name="cats")), AddVersion(version(3))])
        found = store.versions("p", "data", "faces")
        assert [it.number for it in found] == [1, 2, 3]
        assert found[0] == version(
            1,
            **{**fields_of(first, "size files run_id output source"), "created": found[0].created},
        )
        assert (found[1].meta, found[1].created) == (meta, 5.0)
        assert [it.name for it in store.versions("p")] == ["cats", "faces", "faces", "faces"]
        assert [it.number for it in store.versions("p", digest="e")] == [2]
        assert store.versions("q") == [] == store.versions("p", "model")
        assert len(store.versions("")) == 4

    def test_a_dropped_number_never_returns(self, store: Store) -> None:
        assert store.next_number("p", "data", "faces") == 1
        store.commit([AddVersion(version(1)), AddVersion(version(2, aliases=("best",)))])
        store.commit([DropVersion("p", "data", "faces", 2)])
        assert [it.number for it in store.versions("p")] == [1]
        assert store.next_number("p", "data", "faces") == 3
        with pytest.raises(ConflictError):
            store.commit([AddVersion(version(2))])
        with pytest.raises(NotFoundError):
            store.version("p", "data", "faces", "best")
        with pytest.raises(NotFoundError):
            store.commit([DropVersion("p", "data", "faces", 2)])
        store.commit([AddVersion(version(3))])
        assert store.version("p", "data", "faces").number == 3

    def test_an_alias_points_at_one_version(self, store: Store) -> None:
        store.commit([AddVersion(version(1, aliases=("b", "a"))), AddVersion(version(2))])
        store.commit([AddVersion(version(1, name="cats", aliases=("a",)))])
        assert store.version("p", "data", "faces", "a").aliases == ("a", "b")
        store.commit([SetAlias("p", "data", "faces", "a", 2)])
        assert [it.aliases for it in store.versions("p", "data", "faces")] == [("b",), ("a",)]
        store.commit([SetAlias("p", "data", "faces", "b", 0), SetAlias("p", "data", "x", "y", 0)])
        assert [it.aliases for it in store.versions("p")] == [("a",), (), ("a",)]
        for alias in ("7", ""):
            with pytest.raises(UserError, match="an alias needs a letter"):
                store.commit([SetAlias("p", "data", "faces", alias, 1)])

    def test_a_version_is_read_by_number_alias_or_as_the_newest(self, store: Store) -> None:
        store.commit([AddVersion(version(it, digest=f"d{it}")) for it in range(1, 12)])
        store.commit([SetAlias("p", "data", "faces", "production", 9)])
        assert store.version("p", "data", "faces", "2").digest == "d2"
        assert store.version("p", "data", "faces", "production").digest == "d9"
        assert store.version("p", "data", "faces").digest == "d11"
        with pytest.raises(NotFoundError) as caught:
            store.version("p", "data", "faces", "12")
        assert "11" in caught.value.hint and "production" in caught.value.hint
        for place in (("p", "data", "cats"), ("p", "model", "faces"), ("q", "data", "faces")):
            with pytest.raises(NotFoundError):
                store.version(*place)

    def test_links_are_read_by_run_and_by_digest(self, store: Store) -> None:
        links = (
            Link("a", "input", "faces", "data", "d1", "faces@3"),
            Link("a", "output", "model", "model", "d2", partial=True),
            Link("b", "input", "x", "data", "d1"),
        )
        store.commit([AddRun(a_run("a")), AddRun(a_run("b")), AddLinks(links)])
        assert store.links(["b", "a", "a"]) == list(links)
        assert store.links(digest="d1") == [links[0], links[2]]
        assert store.links(["a"], digest="d1") == [links[0]]
        assert store.links() == [] == store.links(["nobody"])
        changed = Link("a", "output", "model", "model", "d3")
        store.commit([AddLinks((changed,))])
        assert store.links(["a"]) == [links[0], changed]
        store.commit([AddVersion(version(1, digest="d9")), AddVersion(version(2, digest="d1"))])
        assert list(store.digests()) == ["d1", "d3", "d9"]

    def test_the_first_writer_of_a_cache_entry_stays(self, store: Store) -> None:
        assert store.cache("k") is None
        store.commit([AddCache(CacheEntry("k", "a", 10.0))])
        store.commit([AddCache(CacheEntry("k", "b", 20.0)), AddCache(CacheEntry("l", "b", 20.0))])
        assert store.cache("k") == CacheEntry("k", "a", 10.0)
        store.commit([AddCache(CacheEntry("k", "c", 30.0), stale_before=10.5)])
        assert store.cache("k") == CacheEntry("k", "c", 30.0)

    def test_a_message_is_queued_once(self, store: Store) -> None:
        message = Outgoing("a/failed", "a", "slack", "it failed", 5.0)
        store.commit([PutOutgoing(message), PutOutgoing(Outgoing("b", "b", "x", "t", 4.0, 0, 9.0))])
        assert store.outgoing(8.9) == [message]
        assert [it.id for it in store.outgoing(9.0)] == ["b", "a/failed"]
        tried = Outgoing("a/failed", "a", "slack", "it failed", 5.0, 1, 6.0, error="refused")
        store.commit([PutOutgoing(tried), PutOutgoing(message)])
        assert store.outgoing(8.9) == [tried]
        sent = Outgoing("a/failed", "a", "slack", "it failed", 5.0, 2, 6.0, "sent")
        store.commit([PutOutgoing(sent)])
        store.commit([PutOutgoing(tried), PutOutgoing(message)])
        assert store.outgoing(8.9) == []

    # ---- leases ----------------------------------------------------------------------------

    def test_a_lease_has_one_holder_until_it_ends(self, store: Store) -> None:
        store.commit([AddRun(a_run("a"))])
        first = store.claim("a", "x", 0.2)
        assert first is not None and store.claim("a", "y", 60.0) is None
        second = wait_for(lambda: store.claim("a", "y", 60.0))
        assert second.fence > first.fence and second.expires > first.expires
        assert store.claim("a", "x", 60.0) is None
        assert store.claim("b", "x", 60.0) is not None

    def test_a_renewal_in_time_keeps_the_fence(self, store: Store) -> None:
        first, again = store.claim("gc", "x", 60.0), store.claim("gc", "x", 120.0)
        assert first is not None and again is not None
        assert again.fence == first.fence and again.expires > first.expires + 30

    def test_a_stale_lease_writes_nothing(self, store: Store) -> None:
        store.commit([AddRun(a_run("a"))])
        stale = store.claim("a", "x", 0.05)
        fresh = wait_for(lambda: store.claim("a", "y", 60.0))
        with pytest.raises(ConflictError, match="another process drives it"):
            store.commit([SetRun("a", {"detail": "stale"})], lease=stale)
        with pytest.raises(ConflictError):
            store.commit([], lease=stale)
        store.commit([SetRun("a", {"detail": "fresh"})], lease=fresh)
        assert store.run("a").detail == "fresh"
        assert stale is not None
        store.release(stale)
        store.commit([], lease=fresh)

    def test_a_lease_given_back_is_free_at_once_and_worth_nothing(self, store: Store) -> None:
        first = store.claim("a", "x", 60.0)
        assert first is not None
        store.release(first)
        with pytest.raises(ConflictError):
            store.commit([SetCursor("c", "", "1")], lease=first)
        second = store.claim("a", "y", 60.0)
        assert second is not None and second.fence > first.fence

    @pytest.mark.parametrize("shift", [-86_400.0, 86_400.0])
    def test_a_clients_clock_does_not_matter_to_leases(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, shift: float
    ) -> None:
        first = store.claim("a", "x", 60.0)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + shift)
        assert store.claim("a", "y", 60.0) is None
        again = store.claim("a", "x", 60.0)
        assert first is not None and again is not None and again.fence == first.fence
        assert abs(again.expires - (now + 60.0)) < 60.0
