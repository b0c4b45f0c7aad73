"""What every record store promises of runs, events, metrics and whole commits."""

import math
import time

import pytest

from mlstead.errors import ConflictError, NotFoundError, UserError
from mlstead.records.base import (
    AddCache,
    AddEvents,
    AddLinks,
    AddPoints,
    AddRun,
    AddVersion,
    CacheEntry,
    Change,
    DropVersion,
    Event,
    Link,
    Outgoing,
    Point,
    PutOutgoing,
    Query,
    SetAlias,
    SetCursor,
    SetRun,
    State,
    Store,
    Version,
)
from mlstead.testing.store_crowd import Place, a_run
from mlstead.testing.store_values import HOSTILE, fields_of, ids, point, version


class RunsContract:
    """Runs, events and metrics; see ``StoreContract``."""

    # ---- runs ------------------------------------------------------------------------------

    def test_a_run_comes_back_as_it_was_written(self, store: Store) -> None:
        run = a_run(
            "a-1",
            engine="local",
            state=State.QUEUED,
            parent="sweep-1",
            key="train[0]",
            spec={"command": ["a", "b"], "deep": {"lr": 0.1, "none": None, "yes": True}},
            request={"argv": ["é", "\ud800"]},
            params={"lr": 1e-300, "n": 2**62},
            labels={"team": "a"},
            values={"x": 1},
            extra={"y": []},
            status={"phase": "queued"},
            created=12.25,
            started=13.5,
            ended=14.75,
            reason="oom",
            detail="a\nb",
            attempt=2,
            stop=True,
            cached="b-1",
            code="c" * 40,
            environment="e",
            mlflow="m",
            token="t",
        )
        store.commit([AddRun(run)])
        found = store.run("a-1")
        assert found.number == 1
        assert found == a_run("a-1", **{**fields_of(run), "number": 1})

    def test_runs_are_numbered_and_dated_by_the_store(self, store: Store) -> None:
        before = time.time()
        store.commit([AddRun(a_run("a")), AddRun(a_run("b"))])
        store.commit([AddRun(a_run("c"))])
        found = [store.run(name) for name in "abc"]
        assert [it.number for it in found] == [1, 2, 3]
        assert all(before - 60 < it.created < time.time() + 60 for it in found)

    def test_tuples_and_numbers_as_keys_come_back_as_json_has_them(self, store: Store) -> None:
        store.commit([AddRun(a_run("a", spec={"t": (1, 2), "m": {3: "x"}}))])
        assert store.run("a").spec == {"t": [1, 2], "m": {"3": "x"}}

    def test_an_unknown_run_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            store.run("nobody")

    def test_the_same_id_twice_is_a_conflict(self, store: Store) -> None:
        store.commit([AddRun(a_run("a", name="first"))])
        with pytest.raises(ConflictError, match="exists already"):
            store.commit([AddRun(a_run("a", name="second"))])
        assert store.run("a").name == "first"

    def test_a_token_is_one_run_for_ever(self, store: Store) -> None:
        store.commit([AddRun(a_run("a", token="t")), AddRun(a_run("b")), AddRun(a_run("c"))])
        with pytest.raises(ConflictError, match="token"):
            store.commit([AddRun(a_run("d", token="t"))])
        found = store.by_token("t")
        assert found is not None and found.id == "a"
        assert store.by_token("u") is None
        assert store.by_token("") is None

    def test_fields_are_set_and_mappings_replaced(self, store: Store) -> None:
        store.commit([AddRun(a_run("a", extra={"x": 1}, labels={"l": "1"}))])
        changed = {"state": State.RUNNING, "extra": {"y": 2}, "started": 5.5, "stop": True}
        store.commit([SetRun("a", changed)])
        found = store.run("a")
        assert found.state is State.RUNNING
        assert (found.extra, found.labels, found.started) == ({"y": 2}, {"l": "1"}, 5.5)
        assert found.stop is True and found.ended is None

    def test_a_run_that_ended_is_changed_only_on_purpose(self, store: Store) -> None:
        store.commit([AddRun(a_run("a", state=State.CANCELLED))])
        store.commit([SetRun("a", {"state": State.RUNNING, "detail": "late"})])
        assert (store.run("a").state, store.run("a").detail) == (State.CANCELLED, "")
        store.commit([SetRun("a", {"mlflow": "m"}, unless_final=False)])
        assert store.run("a").mlflow == "m"

    def test_setting_fields_of_an_unknown_run_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFoundError):
            store.commit([SetRun("nobody", {"detail": "x"})])

    @pytest.mark.parametrize("name", ["id", "number", "token", "x = 1; --"])
    def test_what_names_a_run_is_never_set(self, store: Store, name: str) -> None:
        store.commit([AddRun(a_run("a"))])
        with pytest.raises(ValueError, match="not to be set"):
            store.commit([SetRun("a", {name: "x"})])

    def test_runs_are_listed_newest_first_and_by_pages(self, store: Store) -> None:
        store.commit([AddRun(a_run(f"r{at}")) for at in range(60)])
        first = store.runs(Query())
        assert [it.id for it in first] == [f"r{at}" for at in range(59, 9, -1)]
        assert ids(store, before=first[-1].number) == [f"r{at}" for at in range(9, -1, -1)]
        assert ids(store, after=58, limit=0) == ["r59", "r58"]
        assert len(ids(store, limit=0)) == 60

    def test_runs_are_listed_by_what_they_are(self, store: Store) -> None:
        store.commit(
            [
                AddRun(a_run("a", project="q", state=State.FAILED)),
                AddRun(a_run("b", kind="sweep", code="c1")),
                AddRun(a_run("c", name="train", state=State.RUNNING)),
                AddRun(a_run("d", state=State.SUCCEEDED)),
            ]
        )
        assert ids(store, project="q") == ["a"]
        assert ids(store, kind="sweep") == ["b"]
        assert ids(store, name="train") == ["c"]
        assert ids(store, code="c1") == ["b"]
        assert ids(store, open=True) == ["c", "b"]
        assert ids(store, states=(State.FAILED, State.SUCCEEDED)) == ["d", "a"]
        assert ids(store, states=(State.FAILED, State.RUNNING), open=True) == ["c"]
        assert ids(store, states=(State.FAILED,), open=True) == []
        assert ids(store, project="p", kind="job", open=True, limit=1) == ["c"]

    def test_runs_that_have_work_for_a_driver_are_listed(self, store: Store) -> None:
        store.commit([AddRun(a_run(f"job-{it}", state=it)) for it in State])
        store.commit([AddRun(a_run(f"s-{it}", kind="sweep", state=it)) for it in State])
        open_states = [it for it in State if not it.final]
        jobs = {"job-pending", "job-starting", "job-finishing"}
        assert set(ids(store, driven=True)) == {f"s-{it}" for it in open_states} | jobs
        assert set(ids(store, driven=True, kind="job")) == jobs
        assert ids(store, driven=True, limit=1) == ["s-finishing"]
        store.commit([SetRun("job-starting", {"request": {"sent": 1}})])
        assert "job-starting" not in ids(store, driven=True)

    def test_a_child_that_waits_for_its_parent_has_work_for_a_driver_only_when_it_is_to_end(
        self, store: Store
    ) -> None:
        children = [a_run(f"p-{at}", parent="p", key=f"s[{at}]") for at in range(3)]
        store.commit([AddRun(a_run("p", kind="pipeline")), *map(AddRun, children)])
        assert ids(store, driven=True, parent="*") == ["p"]
        store.commit([SetRun("p-1", {"stop": True})])
        assert ids(store, driven=True, parent="*") == ["p-1", "p"]

    def test_children_are_listed_under_their_parent_oldest_first(self, store: Store) -> None:
        store.commit([AddRun(a_run("s", kind="sweep")), AddRun(a_run("x"))])
        store.commit([AddRun(a_run(f"s-{at}", parent="s", key=str(at))) for at in range(3)])
        assert ids(store) == ["x", "s"]
        assert ids(store, parent="s") == ["s-0", "s-1", "s-2"]
        assert ids(store, parent="s", after=3, limit=1) == ["s-1"]
        assert ids(store, parent="*") == ["s-2", "s-1", "s-0", "x", "s"]

    def test_children_are_counted_by_state(self, store: Store) -> None:
        store.commit([AddRun(a_run("s")), AddRun(a_run("t"))])
        states = [State.RUNNING, State.FAILED, State.FAILED]
        store.commit(
            [AddRun(a_run(f"s-{at}", parent="s", state=it)) for at, it in enumerate(states)]
        )
        assert store.counts(["s", "t"]) == {"s": {State.RUNNING: 1, State.FAILED: 2}, "t": {}}
        assert store.counts([]) == {}

    def test_a_run_is_found_by_id_name_or_beginning(self, store: Store) -> None:
        store.commit([AddRun(a_run("train-1a", project="q")), AddRun(a_run("train-2b"))])
        store.commit([AddRun(a_run("train-2c", parent="x")), AddRun(a_run("other-1"))])
        assert store.find("train-1a").id == "train-1a"
        assert store.find("train").id == "train-2b"  # the newest that is no child
        assert store.find("train", "q").id == "train-1a"
        assert store.find("train-1").id == "train-1a"
        assert store.find("oth", "p").id == "other-1"
        with pytest.raises(ConflictError, match="train-2b, train-2c"):
            store.find("train-2")
        with pytest.raises(NotFoundError) as caught:
            store.find("trian")
        assert "train" in caught.value.hint

    @pytest.mark.parametrize("text", ["", "%", "_", "train_1a", "Train", "*", "nothing"])
    def test_what_no_run_is_called_is_not_found(self, store: Store, text: str) -> None:
        store.commit([AddRun(a_run("train-1a"))])
        with pytest.raises(NotFoundError):
            store.find(text)

    @pytest.mark.parametrize("text", HOSTILE)
    def test_strange_text_stays_data(self, store: Store, text: str) -> None:
        run = a_run(text, name=text, project=text, labels={text: text}, detail=text, token=text)
        store.commit([AddRun(run), AddRun(a_run("other"))])
        store.commit(
            [
                SetRun(text, {"reason": text, "extra": {text: [text]}}),
                AddEvents((Event(text, text, 1.0, data={text: text}),)),
                AddPoints((Point(text, text, 1.0, 1, 1.0),)),
                SetCursor(text, "", text),
                AddVersion(Version(text, "data", text, 1, text, aliases=("@" + text,))),
                AddLinks((Link(text, "input", text, "data", text, text),)),
                AddCache(CacheEntry(text, text, 1.0)),
                PutOutgoing(Outgoing(text, text, text, text, 1.0)),
            ]
        )
        found = store.run(text)
        assert (found.name, found.detail, found.reason, found.labels) == (
            *(text, text, text),
            {text: text},
        )
        assert store.find(text).id == text == store.find(text[:7]).id
        assert [it.name for it in store.events(text)] == [text]
        assert store.latest([text])[text][text].value == 1.0
        assert store.cursor(text) == text == store.cursors(text)[text]
        assert store.version(text, "data", text, "@" + text).digest == text
        assert [it.slot for it in store.links([text])] == [text]
        assert store.cache(text) == CacheEntry(text, text, 1.0)
        assert [it.text for it in store.outgoing(1.0)] == [text]
        assert ids(store) == ["other", text]

    # ---- one commit ------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "last",
        [
            AddRun(a_run("a")),
            SetRun("nobody", {"detail": "x"}),
            AddEvents((Event("nobody", "x", 1.0),)),
            AddPoints((point("loss", 1.0, 1, run_id="nobody"),)),
            SetCursor("c", "wrong", "x"),
            AddVersion(version(7)),
            SetAlias("p", "data", "faces", "best", 9),
            DropVersion("p", "data", "faces", 9),
            AddLinks((Link("nobody", "input", "x", "data", "d"),)),
        ],
        ids=lambda it: type(it).__name__,
    )
    def test_a_commit_that_fails_at_its_end_leaves_nothing(
        self, store: Store, last: Change
    ) -> None:
        store.commit([AddRun(a_run("a")), SetCursor("c", "", "1"), AddVersion(version(1))])
        changes: list[Change] = [
            AddRun(a_run("b", token="t")),
            SetRun("a", {"state": State.FAILED}),
            AddEvents((Event("a", "submitted", 1.0),)),
            AddPoints((point("loss", 1.0, 1),)),
            SetCursor("c", "1", "2"),
            AddVersion(version(2)),
            SetAlias("p", "data", "faces", "production", 1),
            DropVersion("p", "data", "faces", 2),
            AddLinks((Link("a", "input", "x", "data", "d"),)),
            AddCache(CacheEntry("k", "a", 1.0)),
            PutOutgoing(Outgoing("o", "a", "slack", "hello", 1.0)),
            last,
        ]
        with pytest.raises(UserError):
            store.commit(changes)
        assert ids(store, parent="*") == ["a"] and store.by_token("t") is None
        assert store.run("a").state is State.PENDING
        assert not (store.events("a") or store.points() or store.links(["a"]))
        assert store.latest(["a"]) == {"a": {}} and store.best("a", "loss", "min") is None
        assert store.cursor("c") == "1"
        assert store.versions("p") == [version(1, created=store.versions("p")[0].created)]
        assert store.next_number("p", "data", "faces") == 2
        assert store.cache("k") is None and store.outgoing(9.0) == []
        store.commit([AddRun(a_run("b")), AddPoints((point("loss", 1.0, 1),))])
        assert (store.run("b").number, store.points()[0].number) == (2, 1)

    def test_an_empty_commit_does_nothing(self, store: Store) -> None:
        store.commit([])
        store.commit([AddRun(a_run("a")), AddEvents(()), AddPoints(()), AddLinks(())])
        store.commit([SetRun("a", {})])
        assert ids(store) == ["a"]

    def test_another_client_sees_what_was_committed(self, place: Place, store: Store) -> None:
        store.commit([AddRun(a_run("a"))])
        other = place.door()
        assert other.run("a") == store.run("a")
        other.commit([SetRun("a", {"detail": "x"})])
        other.close()
        assert store.run("a").detail == "x" == other.run("a").detail  # opens again
        other.close()

    # ---- events and metrics ----------------------------------------------------------------

    def test_events_come_oldest_first_and_repeats_are_dropped(self, store: Store) -> None:
        store.commit([AddRun(a_run("a")), AddRun(a_run("b"))])
        events = (
            Event("a", "started", 2.0, 1, {"host": "h"}),
            Event("a", "queued", 1.0, 1),
            Event("a", "started", 3.0, 2),
            Event("b", "queued", 1.0),
        )
        store.commit([AddEvents(events[:2])])
        store.commit([AddEvents((Event("a", "started", 9.0, 1, {"host": "x"}), *events))])
        assert store.events("a") == [events[1], events[0], events[2]]
        assert store.events("b") == [events[3]]
        assert store.events("nobody") == []

    def test_points_are_numbered_as_they_come(self, store: Store) -> None:
        store.commit([AddRun(a_run("a")), AddRun(a_run("b"))])
        first = (point("loss", 0.5, 1), point("acc", 1, 1, rank=3, attempt=2))
        store.commit([AddPoints(first)])
        store.commit([AddPoints((point("loss", 0.1, 2, run_id="b"), point("loss", 0.25, 2)))])
        found = store.points()
        assert [it.number for it in found] == [1, 2, 3, 4]
        assert found[1] == point("acc", 1.0, 1, rank=3, attempt=2, number=2)
        assert [it.number for it in store.points("a")] == [1, 2, 4]
        assert [it.number for it in store.points("a", key="loss")] == [1, 4]
        assert [it.number for it in store.points(key="loss", after=1, limit=1)] == [3]
        assert [it.number for it in store.points("a", after=1, limit=1)] == [2]
        assert store.points("nobody") == [] == store.points("a", key="other")

    def test_nan_and_infinities_are_kept(self, store: Store) -> None:
        values = [math.nan, math.inf, -math.inf, 1e308, 5e-324]
        store.commit([AddRun(a_run("a"))])
        store.commit([AddPoints(tuple(point("x", it, at) for at, it in enumerate(values)))])
        assert [repr(it.value) for it in store.points("a")] == [repr(it) for it in values]

    def test_the_latest_point_has_the_highest_step_and_lowest_rank(self, store: Store) -> None:
        store.commit([AddRun(a_run("a")), AddRun(a_run("b")), AddRun(a_run("c"))])
        store.commit([AddPoints((point("loss", 0.9, 5), point("loss", 0.8, 4)))])
        store.commit([AddPoints((point("loss", 0.7, 5, rank=1), point("acc", 0.1, -3)))])
        store.commit([AddPoints((point("loss", math.nan, 5), point("loss", 0.6, 1)))])
        store.commit([AddPoints((point("loss", 0.5, 2, run_id="b"),))])
        found = store.latest(["a", "b", "c", "a"])
        assert {run: {key: it.number for key, it in keys.items()} for run, keys in found.items()}
        assert math.isnan(found["a"]["loss"].value) and found["a"]["loss"].number == 5
        assert found["a"]["acc"].value == 0.1 and found["b"]["loss"].value == 0.5
        assert found["c"] == {} and store.latest([]) == {}

    def test_the_best_point_is_the_first_finite_one_over_all_ranks(self, store: Store) -> None:
        store.commit([AddRun(a_run("a"))])
        assert store.best("a", "loss", "min") is None
        store.commit([AddPoints((point("loss", math.nan, 0), point("loss", -math.inf, 1)))])
        assert store.best("a", "loss", "min") is None
        store.commit([AddPoints((point("loss", 0.5, 2), point("loss", 0.25, 3, rank=1)))])
        store.commit([AddPoints((point("loss", 0.25, 4), point("loss", math.inf, 5)))])
        store.commit([AddPoints((point("loss", 0.4, 6), point("acc", 9.0, 6)))])
        low, high = store.best("a", "loss", "min"), store.best("a", "loss", "max")
        assert low is not None and (low.value, low.step, low.rank) == (0.25, 3, 1)
        assert high is not None and (high.value, high.step) == (0.5, 2)

    def test_ten_thousand_points_go_in_one_commit(self, store: Store) -> None:
        store.commit([AddRun(a_run("a"))])
        many = tuple(point(f"m{at % 4}", float(at), at // 4) for at in range(10_000))
        store.commit([AddPoints(many)])
        assert [it.value for it in store.points("a")] == [float(at) for at in range(10_000)]
        assert [it.value for it in store.points("a", key="m3", limit=2)] == [3.0, 7.0]
        best = store.best("a", "m1", "max")
        assert best is not None and best.value == 9997.0
