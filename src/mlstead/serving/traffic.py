"""Shares requests among versions by weight, evenly and always in the same order."""

from collections.abc import Mapping


class Traffic:
    """Smooth weighted turns: of any 100 requests in a row, each version gets its share.

    The rule is the one of nginx's upstream: everyone gains its weight, the highest is picked and
    pays the sum of all weights.
    """

    def __init__(self, shares: Mapping[str, int]) -> None:
        self._shares = {name: share for name, share in shares.items() if share > 0}
        self._total = sum(self._shares.values())
        self._credit = dict.fromkeys(self._shares, 0)
        self._only = next(iter(self._shares)) if len(self._shares) == 1 else ""

    @property
    def main(self) -> str:
        """The version with the largest share."""
        return max(self._shares, key=lambda name: self._shares[name])

    def pick(self) -> str:
        """Name the version that takes the next request."""
        if self._only:
            return self._only
        for name, share in self._shares.items():
            self._credit[name] += share
        best = max(self._credit, key=lambda name: self._credit[name])
        self._credit[best] -= self._total
        return best
