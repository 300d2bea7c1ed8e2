"""Which limits of a provider a call counts in: each whole one, and its app's share of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from router.endpoints.rate_limits import MINUTE_S, RateLimit
from telemetry.digests import digest8
from telemetry.rate_accounts import RatePeriod


class RateClaim(Struct, frozen=True):
    """One account that a call counts in."""

    of: RateLimit
    account: RatePeriod
    limit: int
    app: str | None  # whose share it is; None: all of the limit

    @property
    def is_hard(self) -> bool:
        """Whether it is never exceeded; what a call uses nobody knows before."""
        return False

    @property
    def ends_s(self) -> int:
        """When its minute ends, in epoch seconds."""
        return self.account.start_s + self.account.length_s


def find_rate_claims(
    limits: Sequence[RateLimit], app: str, *, at_s: float
) -> tuple[RateClaim, ...]:
    """Return the accounts that a call of an app counts in, shares before whole limits.

    Args:
        limits: of the endpoint that it goes to.
        at_s: when it goes there, in epoch seconds.
    """
    start_s = int(at_s // MINUTE_S) * MINUTE_S
    return (*_shares(limits, app, start_s), *(_whole(limit, start_s) for limit in limits))


def whole_claims(limits: Sequence[RateLimit], *, at_s: float) -> Iterator[RateClaim]:
    """Yield those that all calls count in."""
    start_s = int(at_s // MINUTE_S) * MINUTE_S
    return (_whole(limit, start_s) for limit in limits)


def _whole(limit: RateLimit, start_s: int) -> RateClaim:
    return RateClaim(limit, RatePeriod(limit.digest, start_s, MINUTE_S), limit.per_minute, None)


def _shares(limits: Sequence[RateLimit], app: str, start_s: int) -> Iterator[RateClaim]:
    for limit in limits:
        share = limit.share_of(app)
        if share is not None:
            digest = digest8("rate share", f"{limit.digest:016x}", app)
            yield RateClaim(limit, RatePeriod(digest, start_s, MINUTE_S), share, app)
