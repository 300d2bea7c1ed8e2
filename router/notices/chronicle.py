"""The thread that tells what changed: a look a second at what is known here, at no call's cost.

Only what differs from the last look is asked for in the store, and told there by the first router
that comes. Every ten seconds it says that this router is there, and what is wrong with it. A store
that is away is asked again later: what still holds by then is told late, what came and went
meanwhile is not told. Warnings of budgets that are spent wait here, a hundred at most.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

import structlog

from bandit.report import ChangeKind
from router.beliefs.keeper import Keeper
from router.budgets.claims import BudgetClaim
from router.budgets.warnings import MARKS, BudgetWarning
from router.config.budgets import EACH
from router.endpoints.health import Health
from router.notices.events import IN_FORCE, ListedEvents, RoomEvents, SwitchEvents
from router.notices.held import LEFT_AFTER_S, HeldTroubles
from router.notices.looking import look_until
from router.notices.presence import presence_of, router_name
from router.notices.trials import TrialEvents
from router.notices.troubles import SeenTroubles
from telemetry import changes, keys, routers
from telemetry.changes import ChangeRecord, change_id
from telemetry.routers import SAID_EVERY_S, RouterPresence, RouterTrouble
from telemetry.store import Address, Client

log = structlog.get_logger()

LOOK_EVERY_S = 1.0
SWEEP_EVERY_S = 60.0
MAX_WAITING = 100
"""Warnings of budgets that the store was not told; the oldest make room."""
WARNED = frozenset({ChangeKind.OUTAGE, ChangeKind.GONE, ChangeKind.BUDGET, ChangeKind.SUSPENDED})
"""Logged as warnings, the others as information."""


class Chronicle:
    """Tells it; one for the process."""

    def __init__(
        self,
        address: Address,
        keeper: Keeper,
        health: Health,
        *,
        now_ms: Callable[[], int],
    ) -> None:
        """Tell nothing yet.

        Args:
            now_ms: epoch milliseconds, by the store's clock.
        """
        self.more_troubles: Callable[[], Sequence[RouterTrouble]] = tuple  # of this process
        self.name = router_name(keeper.current.configuration.server.port)
        self._address, self._keeper, self._now_ms = address, keeper, now_ms
        self._seen = SeenTroubles(keeper, health, now_ms=now_ms)
        self._listed = ListedEvents(self.name)
        self._switch, self._rooms = SwitchEvents(), RoomEvents()
        self._held, self._trials = HeldTroubles(self.name), TrialEvents()
        self._spent: deque[ChangeRecord] = deque(maxlen=MAX_WAITING)
        self._said: tuple[str, frozenset[str]] | None = None  # configuration and troubles
        self._say_at = self._sweep_at = 0.0  # monotonic seconds
        self._sound_at = time.monotonic() + LEFT_AFTER_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chronicle", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and say that this router is gone."""
        self._stop.set()
        self._thread.join(2)

    def troubles(self) -> list[RouterTrouble]:
        """Return what needs attention here now, most urgent first; also without a store."""
        found = [*self.more_troubles(), *self._seen.look(time.monotonic())]
        return sorted(found, key=lambda one: not one.is_urgent)

    def presence(self) -> RouterPresence:
        """Return what this router says of itself now; also without a store."""
        configuration = self._keeper.current.configuration
        return presence_of(self.name, configuration, self.troubles(), now_ms=self._now_ms())

    def note_warning(self, warning: BudgetWarning, claim: BudgetClaim) -> None:
        """Take a warning of a budget that nobody said before; only of those that are spent."""
        if warning.percent >= MARKS[-1]:
            self._spent.append(_spent(warning, claim))

    def look(self, client: Client) -> None:
        """Look once.

        Raises:
            redis.RedisError, OSError: the store is away; what was not told is told later.
        """
        now, now_ms, keeper = time.monotonic(), self._now_ms(), self._keeper
        known = _Routers(client, now_ms)
        while self._spent:
            changes.append(client, [self._spent[0]])  # the log has it
            self._spent.popleft()
        current = keeper.current
        _log(self._listed.settle(client, current.configuration, known, now_ms=now_ms))
        _log(self._switch.settle(client, keeper.switch, now_ms=now_ms))
        _log(self._rooms.settle(client, current.choices, now_ms=now_ms))
        presence = self.presence()
        if now >= self._say_at:
            _log(self._trials.settle(client))
        self._say(client, presence, now)
        _log(self._held.settle(client, presence.troubles, known, now_ms=now_ms))
        if now >= self._sweep_at:
            self._sweep(client, now, now_ms)

    def _say(self, client: Client, presence: RouterPresence, now: float) -> None:
        """Say that this router is there: when it is due, or says anything else than before."""
        said = presence.configuration, frozenset(one.key for one in presence.troubles)
        if now < self._say_at and said == self._said:
            return
        routers.say(client, presence)
        client.hset(keys.CHANGES_KNOWN, f"{IN_FORCE}{presence.configuration}", presence.seen_ms)
        self._said, self._say_at = said, now + SAID_EVERY_S

    def _sweep(self, client: Client, now: float, now_ms: int) -> None:
        routers.prune(client, now_ms=now_ms)
        known = changes.read_known(client)
        _log(self._listed.sweep(client, known, now_ms=now_ms))
        if now >= self._sound_at:
            others = routers.read_routers(client, now_ms=now_ms)
            _log(self._held.sweep(client, known, others, now_ms=now_ms))
        self._sweep_at = now + SWEEP_EVERY_S

    def _run(self) -> None:
        look_until(
            self._stop,
            self._address,
            self._look_and_rest,
            lambda client: routers.leave(client, self.name),
            rest_s=LOOK_EVERY_S,
            failed="changes could not be looked at",
        )

    def _look_and_rest(self, client: Client) -> float:
        self.look(client)
        return LOOK_EVERY_S


class _Routers(Iterable[RouterPresence]):
    """All routers of the store, read where somebody asks for them."""

    def __init__(self, client: Client, now_ms: int) -> None:
        self._client, self._now_ms = client, now_ms
        self._known: list[RouterPresence] | None = None

    def __iter__(self) -> Iterator[RouterPresence]:
        if self._known is None:
            self._known = routers.read_routers(self._client, now_ms=self._now_ms)
        return iter(self._known)


def _spent(warning: BudgetWarning, claim: BudgetClaim) -> ChangeRecord:
    """Return what is told of a spent account; of users' accounts of a period the first alone."""
    is_of_user = "user" in claim.budget.each
    values = {name: value for name, value in claim.values if name != "user"}
    of = f" ({', '.join(f'{name} {value}' for name, value in values.items())})" if values else ""
    is_spent = warning.spent >= warning.limit
    what = "is spent" if is_spent else "has too little left for calls"
    whose = "a user's budget" if is_of_user else "the budget"
    app = claim.budget.scope.get("app", "")
    cause = str(warning.start_s) if is_of_user else warning.field
    return ChangeRecord(
        id=change_id(ChangeKind.BUDGET, warning.budget, cause),
        at_ms=warning.at_s * 1000,
        kind=ChangeKind.BUDGET.value,
        subject=f"{warning.budget}{of}",
        text=f"{whose} of this {warning.period} {what}",
        app=values.get("app", "" if app == EACH else app),
    )


def _log(told: Sequence[ChangeRecord]) -> None:
    """Say in the log what this router was the first to tell."""
    for one in told:
        say = log.warning if one.kind in WARNED else log.info
        say(
            f"changed: {one.kind}",
            subject=one.subject,
            text=one.text,
            **{name: value for name in ("reason", "app") if (value := getattr(one, name))},
        )
