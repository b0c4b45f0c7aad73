"""What every record store promises, as tests: subclass ``StoreContract``, give a ``place``."""

from collections.abc import Iterator

import pytest

from mlstead.records.base import (
    Query,
    Store,
)
from mlstead.testing import store_crowd
from mlstead.testing.store_crowd import SIZE, Place, crowd
from mlstead.testing.store_keeping import KeepingContract
from mlstead.testing.store_runs import RunsContract
from mlstead.testing.store_values import ids


class StoreContract(RunsContract, KeepingContract):
    """Every method of a store, its errors, and eight clients at once.

    A subclass gives the fixture ``place``: empty records, a new one for each test.
    """

    @pytest.fixture
    def store(self, place: Place) -> Iterator[Store]:
        store = place.door()
        yield store
        store.close()

    # ---- eight at once ---------------------------------------------------------------------

    def test_eight_writers_lose_nothing(self, place: Place, store: Store) -> None:
        crowd(place, store_crowd.write, 20)
        found = store.runs(Query(limit=0))
        assert sorted(it.number for it in found) == list(range(1, SIZE * 20 + 2))
        assert {it.id: it.detail for it in found if it.id != "gate"} == {
            f"w{at}-{turn}": f"{at}/{turn}" for at in range(SIZE) for turn in range(20)
        }
        assert all(len(store.events(it.id)) == 1 for it in found if it.id != "gate")
        points = store.points()
        assert [it.number for it in points] == list(range(1, SIZE * 20 * 5 + 1))
        assert {(it.run_id, it.value) for it in points} == {
            (it.id, float(at)) for it in found if it.id != "gate" for at in range(5)
        }

    def test_eight_submissions_of_one_token_make_one_run(self, place: Place, store: Store) -> None:
        got = crowd(place, store_crowd.submit, "token")
        assert len(set(got)) == 1
        assert ids(store) == [got[0], "gate"]

    def test_eight_writers_of_versions_get_each_number_once(
        self, place: Place, store: Store
    ) -> None:
        got = crowd(place, store_crowd.add_versions, 5)
        assert sorted(number for numbers in got for number in numbers) == list(
            range(1, SIZE * 5 + 1)
        )
        found = store.versions("p", "data", "faces")
        assert [it.number for it in found] == list(range(1, SIZE * 5 + 1))
        assert len({it.digest for it in found}) == SIZE * 5

    def test_eight_movers_of_a_cursor_lose_no_step(self, place: Place, store: Store) -> None:
        crowd(place, store_crowd.move_cursor, 10)
        assert store.cursor("count") == str(SIZE * 10)

    def test_of_eight_claims_one_wins(self, place: Place) -> None:
        assert sorted(crowd(place, store_crowd.claim)) == [0] * (SIZE - 1) + [1]

    def test_who_reads_points_as_they_come_misses_none(self, place: Place) -> None:
        seen = crowd(place, store_crowd.follow, 5, 20)[5:]
        assert seen == [list(range(1, 5 * 20 * 3 + 1))] * 3
