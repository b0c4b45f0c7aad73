"""How unversioned requests are shared among versions."""

from collections import Counter
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlstead.serving.traffic import Traffic


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 100), min_size=1))
def test_every_round_gives_each_version_exactly_its_share(shares: dict[str, int]) -> None:
    total = sum(shares.values())
    if not total:
        return
    traffic = Traffic(shares)
    for _ in range(2):
        counts = Counter(traffic.pick() for _ in range(total))
        expected = {name: share for name, share in shares.items() if share}
        if len(expected) > 1:
            assert counts == expected


def test_a_small_share_is_spread_and_not_bunched() -> None:
    traffic = Traffic({"old": 90, "new": 10})
    turns = [index for index in range(100) if traffic.pick() == "new"]
    assert len(turns) == 10
    assert all(later - earlier == 10 for earlier, later in pairwise(turns))


def test_a_version_without_share_never_answers() -> None:
    traffic = Traffic({"old": 100, "new": 0})
    assert {traffic.pick() for _ in range(300)} == {"old"}
    assert traffic.main == "old"
