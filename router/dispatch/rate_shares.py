"""Which share of its conversations labels are read off, of an app that names a rate of calls.

The share is 1, a half, a quarter … It is halved as soon as more calls were read within a window
than the rate allows, and doubled after a window in which so few were that twice as many would
still fit with a fifth to spare. A larger share holds all that a smaller one does, so that between
two steps every conversation stays in or out, and at a step those that stay are the same ones.
"""

from __future__ import annotations

WINDOW_S = 10.0
"""A burst that is shorter is read as a whole, where the calls of the window are not too many."""
FEW = 0.4
"""Of what the rate allows: of fewer calls the share is doubled."""
LEAST_SHARE = 2.0**-16
MAX_APPS = 4096


class RateShare:
    """The share of one app's conversations."""

    __slots__ = ("_began_s", "_n", "share")

    def __init__(self, now_s: float) -> None:
        self.share = 1.0
        self._began_s = now_s  # of the window; monotonic seconds
        self._n = 0  # calls that were read in it

    def at(self, calls_per_s: float, now_s: float) -> float:
        """Return the share now.

        Args:
            calls_per_s: which the app names.
            now_s: monotonic seconds.
        """
        passed_s = now_s - self._began_s
        if passed_s < WINDOW_S:
            return self.share
        while self.share < 1.0 and passed_s >= WINDOW_S and self._n < FEW * calls_per_s * passed_s:
            self.share *= 2
            self._n, passed_s = 0, passed_s - WINDOW_S  # in the windows after the first were none
        self._begin(now_s)
        return self.share

    def count(self, calls_per_s: float, now_s: float) -> None:
        """Note that a call is read."""
        self._n += 1
        if self._n > calls_per_s * WINDOW_S:
            self.share = max(self.share / 2, LEAST_SHARE)
            self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        self._began_s, self._n = now_s, 0


class RateShares:
    """The shares of all apps that name a rate, in this process."""

    def __init__(self) -> None:
        self._by_app: dict[int, RateShare] = {}

    def of(self, app: int, now_s: float) -> RateShare:
        """Return the share of an app, by its digest."""
        found = self._by_app.get(app)
        if found is None:
            if len(self._by_app) >= MAX_APPS:
                self._by_app.clear()
            found = self._by_app[app] = RateShare(now_s)
        return found
