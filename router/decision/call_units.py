"""The units of calls: those of sessions under way are hashed once."""

from __future__ import annotations

from router.beliefs.keeper import Keeper
from router.decision.context import Moment
from router.decision.settled_kinds import SettledKind
from router.decision.units import EARLIER_MS, SESSION_S, Unit, unit_of
from router.policy.callers import Caller
from router.policy.hints import Hints
from telemetry.secret import UnitSecrets

MAX_KNOWN = 8192
"""Units of sessions remembered, in about 300 bytes each."""


class CallUnits:
    """Says whose draw a call shares; one for the process."""

    def __init__(self, keeper: Keeper) -> None:
        """Begin.

        Args:
            keeper: knows what units are hashed with.
        """
        self._keeper = keeper
        self._known = KnownUnits()
        self._first_call_s: float | None = None  # epoch seconds

    def of(self, caller: Caller, hints: Hints, kind: SettledKind, at: Moment) -> Unit:
        """Return the unit of a call of a kind."""
        secrets, now, session = self._keeper.secrets.users.of_units, at.epoch_s, hints.session
        user = None
        if not hints.profile:
            user = hints.user if caller.holder is None else caller.user(hints.user)
        if self._first_call_s is None:
            self._first_call_s = now
        looks_back = now < self._first_call_s + SESSION_S  # it may go on from a version before
        told = hash((kind.told, user, session, hints.is_users))
        if session is not None:
            known = self._known.get(told, secrets, now, looks_back)
            if known is not None:
                return known  # most often
        app = caller.app
        found = unit_of(
            secrets=secrets,
            app=app.name,
            app_digest=app.digest,
            user=user,
            session=session,
            stateless=hints.profile or app.is_stateless,
            now=now,
            draw_key=kind.draw_key,
            is_users=hints.is_users,
            is_part=kind.is_part,
            looks_back=looks_back,
        )
        if session is not None:
            self._known.put(told, found)
        return found


class KnownUnits:
    """The units of sessions under way: to hash one anew takes longer than all else of it.

    No name is kept. A unit stays what it is while the secrets do, and while it is looked for
    under as many earlier keys.
    """

    def __init__(self) -> None:
        self._known: dict[int, Unit] = {}
        self._under: tuple[UnitSecrets, bool, bool] | None = None

    def get(self, told: int, secrets: UnitSecrets, now: float, looks_back: bool) -> Unit | None:
        """Return the unit of a session; None where it is not known under all of this.

        Args:
            told: hash of all else that `unit_of` takes.
        """
        is_new = now * 1000 - secrets.since_ms < EARLIER_MS
        under = self._under
        if (
            under is None
            or under[0] is not secrets
            or under[1] is not is_new
            or under[2] is not looks_back
        ):
            self._known, self._under = {}, (secrets, is_new, looks_back)
            return None
        return self._known.get(told)

    def put(self, told: int, unit: Unit) -> None:
        """Remember the unit of a session, once `get` knew none."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[told] = unit
