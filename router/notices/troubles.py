"""What needs attention at this router: endpoints that are out, what they refuse, file and store."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from router.beliefs.keeper import Keeper
from router.dispatch.diagnosis import BY_STATUS
from router.endpoints.breaker import OUTAGE_S, Breaker, Trouble
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.health import Health
from router.endpoints.suspensions import FORGOTTEN_S, REFUSALS_TO_SUSPEND, Refused, Suspensions
from telemetry.routers import RouterTrouble

SUSPENDED = "suspended"
FILE = "configuration"
STORE = "store"
WORDS = {
    Trouble.FAILING: "does not answer",
    Trouble.EXHAUSTED: "has nothing left of its limits",
}
FIXES = {
    Trouble.FAILING: "see whether it is up; calls go elsewhere as far as they may",
    Trouble.EXHAUSTED: "raise its limits at the provider, or list another host",
}
TURNED_DOWN = {
    401: "wrong key",
    402: "no credit",
    403: "its key may not do this",
    404: "no such model or path",
}
"""Why key or model was turned down, by the status with which."""


class SeenTroubles:
    """Looks for them; from any thread."""

    def __init__(self, keeper: Keeper, health: Health, *, now_ms: Callable[[], int]) -> None:
        """Look at nothing yet.

        Args:
            now_ms: epoch milliseconds, by the store's clock.
        """
        self._keeper, self._health, self._now_ms = keeper, health, now_ms

    def look(self, now: float) -> list[RouterTrouble]:
        """Return what there is, most urgent first.

        Args:
            now: monotonic seconds.
        """
        catalog = self._keeper.current.configuration.catalog
        found = [*self._process(), *self._endpoints(catalog, now)]
        return sorted(found, key=lambda one: (not one.is_urgent, one.since_ms, one.key))

    def _endpoints(self, catalog: Catalog, now: float) -> Iterator[RouterTrouble]:
        health, now_ms = self._health, self._now_ms()
        for digest in list(health.troubled | health.suspended):
            endpoint, breaker = catalog.by_digest.get(digest), health.breakers.get(digest)
            if endpoint is None or breaker is None:
                continue

            def since_ms(then: float) -> int:
                return now_ms - int(1000 * (now - then))

            yield from _outages(endpoint, breaker, now, since_ms)
            yield from _suspensions(endpoint, breaker.suspensions, now, since_ms)

    def _process(self) -> Iterator[RouterTrouble]:
        file, store = self._keeper.file, self._keeper.trouble
        refused = file.in_force.refused if file is not None else None
        if file is not None and refused is not None:
            more = f" and {refused.n_errors - 1} more" if refused.n_errors > 1 else ""
            yield RouterTrouble(
                kind=FILE,
                subject=file.in_force.file,
                text=f"the file is refused ({refused.n_errors}); the one before stays in force",
                since_ms=refused.at_ms,
                fix=f"{refused.errors[0]}{more}" if refused.errors else "",
            )
        if file is not None and file.in_force.needs_restart:
            fields = ", ".join(file.in_force.needs_restart)
            yield RouterTrouble(
                kind="restart",
                subject=file.in_force.file,
                text=f"changes of {fields} wait for a restart",
                since_ms=file.in_force.since_ms,
                fix="restart the sidecar",
                is_urgent=False,
            )
        if store is not None:
            said = f" ({store.said})" if store.said else ""
            yield RouterTrouble(
                kind=STORE, subject=STORE, text=f"{store.reason}{said}", fix=store.fix
            )


def _outages(
    endpoint: Endpoint, breaker: Breaker, now: float, since_ms: Callable[[float], int]
) -> Iterator[RouterTrouble]:
    for trouble, circuit in breaker.circuits.items():
        since = circuit.open_since
        if since is None:
            continue
        if trouble is Trouble.MISCONFIGURED:
            status = breaker.refused_with
            known = BY_STATUS.get(status) if status in TURNED_DOWN else None
            text = TURNED_DOWN.get(status, "key or model is turned down")
            fix = known.fix if known else "`pointsman check --live` says what is wrong"
        elif now - since >= OUTAGE_S:
            text, fix = WORDS[trouble], FIXES[trouble]
        else:
            continue
        yield RouterTrouble(
            kind=trouble.value, subject=endpoint.id, text=text, since_ms=since_ms(since), fix=fix
        )


def _suspensions(
    endpoint: Endpoint, known: Suspensions, now: float, since_ms: Callable[[float], int]
) -> Iterator[RouterTrouble]:
    """Yield what it refuses and others take: until it takes it, or was not asked for an hour."""
    seen = dict[str, float]()
    for refused, mark in list(known.marks.items()):
        is_held = mark.refusals >= REFUSALS_TO_SUSPEND and now - mark.refused_at < FORGOTTEN_S
        if is_held:
            what = _words(refused)
            seen[what] = min(seen.get(what, mark.refused_at), mark.refused_at)
    for what, at in seen.items():
        yield RouterTrouble(
            kind=f"{SUSPENDED}:{what}",
            subject=endpoint.id,
            text=f"refuses {what}, which others take: such calls go elsewhere",
            since_ms=since_ms(at),
            is_urgent=False,
        )


def _words(refused: Refused) -> str:
    return refused.parameter if refused.value is None else f"a value of {refused.parameter}"
