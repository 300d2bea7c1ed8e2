"""What the sidecar believes right now: configuration and posteriors as one immutable value.

A request keeps the value that it started with. A thread builds the next one when the store has
news; banks are drawn on first use, and ahead of time for categories that were in use before.
The same thread reviews the choices of every scope when they are due.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import structlog
from numpy.typing import NDArray

from bandit import cells, regimes, watcher
from bandit.draws import LEARNING, Law, Table, tabulate
from bandit.posterior import Bank, Posterior, infer
from bandit.utility import Objective
from router import alarms, choices
from router.alarms import Alarms, Known
from router.choices import Change, Choices, Kept, Scope
from router.config.compiled import Configuration
from router.releases import Ledger
from telemetry import keys
from telemetry.reader import DEBOUNCE_S, MAX_BUSY_SHARE, POLL_S, Reader
from telemetry.store import Address, Client, StoreErrors, connect
from telemetry.wakeup import Wakeup

log = structlog.get_logger()

LOOK_EVERY_S = 0.25
"""How often off switch and standings are looked at: `off` takes effect within a second."""
LONGEST_MS = 86_400_000
"""Reviews that are due by time are looked for once a day at least."""
OFF_FILE = "off"
FIRST_LOOK_S = 1.0
"""A start waits so long for the store, so that its first draws know the choices."""
MAX_TABLES = 4096
"""Distinct (category, strategy, law, eligible set) remembered; a bound, not a tuning."""


@dataclass(slots=True, eq=False)
class Beliefs:
    """Configuration and posteriors of one version. Only its memory of tables ever grows."""

    configuration: Configuration
    evidence: cells.Evidence
    posterior: Posterior
    version: int
    quality_mean: NDArray[np.float64]  # (n_tasks, n_groups)
    quality_sd: NDArray[np.float64]
    quality_spread: NDArray[np.float64]  # (n_tasks, n_groups) sd of a single reward
    latency_q99_s: NDArray[np.float64]  # (n_tasks, n_arms)
    ttft_q99_s: NDArray[np.float64]
    signals: NDArray[np.float64]  # (n_tasks, n_arms, N_COLUMNS) what labels were read off
    known: tuple[Known, ...]  # by arm: whether it changed, and since when
    learning: Law  # of learning mode
    built_at: float  # monotonic seconds
    choices: Mapping[Scope, Choices] = field(default_factory=dict)
    banks: dict[tuple[int, bool], Bank] = field(default_factory=dict)
    _tables: dict[tuple[int, Objective, Law, bytes], Table] = field(default_factory=dict)

    def bank(self, category: int, *, exact: bool = False) -> Bank:
        """Return the category's bank: the same for everybody who has this version.

        Args:
            exact: draws that are not sharpened. Among the two or three candidates of a guarded
                law each is tried as often as it may be the best.
        """
        found = self.banks.get((category, exact))
        if found is None:
            sharpness = 1.0 if exact else None
            found = self.posterior.bank(category, sharpness=sharpness)
            self.banks[category, exact] = found
        return found

    def table(
        self, category: int, objective: Objective, law: Law, eligible: NDArray[np.bool_]
    ) -> Table:
        """Return what a draw needs; counted once for each eligible set."""
        key = (category, objective, law, eligible.tobytes())
        found = self._tables.get(key)
        if found is None:
            if len(self._tables) >= MAX_TABLES:
                self._tables.clear()
            found = self._tables[key] = tabulate(
                self.bank(category, exact=not law.is_learning),
                objective=objective,
                law=law,
                eligible=eligible,
            )
        return found


def believe(
    configuration: Configuration,
    rows: cells.Terms,
    *,
    version: int,
    scopes: Iterable[Scope] = (),
    kept: Mapping[Scope, Kept] = MappingProxyType({}),
    watches: Mapping[int, Known] = MappingProxyType({}),
) -> Beliefs:
    """Return the beliefs that the rows support as of now, with the choices of these scopes.

    Args:
        watches: what is known of endpoints that were watched, by digest.
    """
    known = alarms.by_arm(configuration.catalog, watches)
    evidence = _evidence(configuration, rows, known)
    posterior = infer(evidence, configuration.catalog.arms)
    signals = cells.read_plain(
        rows,
        cells.Family.SIGNALS,
        names=np.array(configuration.task_digests, dtype=np.uint64),
        endpoints=configuration.catalog.digests,
    )
    return Beliefs(
        configuration=configuration,
        evidence=evidence,
        posterior=posterior,
        version=version,
        quality_mean=posterior.quality.mean,
        quality_sd=posterior.quality.sd,
        quality_spread=np.sqrt(posterior.quality.noise + posterior.quality.sd**2),
        latency_q99_s=posterior.latency.quantile(0.99),
        ttft_q99_s=posterior.ttft.quantile(0.99),
        signals=signals,
        known=known,
        learning=_learning(configuration, known),
        built_at=time.monotonic(),
        choices=_choices(configuration, posterior, rows, scopes, kept),
    )


def _evidence(
    configuration: Configuration, rows: cells.Terms, known: tuple[Known, ...]
) -> cells.Evidence:
    tasks = np.array(configuration.task_digests, dtype=np.uint64)
    endpoints, now_ms = configuration.catalog.digests, int(time.time() * 1000)
    found = cells.read(rows, categories=tasks, endpoints=endpoints, now_ms=now_ms)
    if not any(one.regimes.now for one in known):
        return found
    quality, derived = (
        cells.read_by_regime(rows, family, categories=tasks, endpoints=endpoints, now_ms=now_ms)
        for family in cells.BY_REGIME
    )
    counting = [one.regimes for one in known]
    return replace(
        found,
        quality=regimes.count_quality(quality, counting),
        derived=regimes.count_derived(derived, counting),
    )


def _learning(configuration: Configuration, known: tuple[Known, ...]) -> Law:
    """Return the law of learning mode: now and then it probes whoever fell, for a recovery."""
    arm, share = watcher.probe([one.watch for one in known])
    if arm is None:
        return LEARNING
    return replace(LEARNING, floor=share, declared=(configuration.catalog.endpoints[arm].group,))


def _choices(
    configuration: Configuration,
    posterior: Posterior,
    rows: cells.Terms,
    scopes: Iterable[Scope],
    kept: Mapping[Scope, Kept],
) -> dict[Scope, Choices]:
    return {s: choices.weigh(s, kept.get(s), posterior, rows, configuration) for s in scopes}


def known_scopes(
    configuration: Configuration, kept: Iterable[Scope], wanted: Iterable[Scope] = ()
) -> list[Scope]:
    """Return the scopes in use: of the configuration, of the store, and those asked for."""
    known = dict.fromkeys([*choices.seeds(configuration), *kept, *wanted])
    return [scope for scope in known if choices.is_current(scope, configuration)]


NOTHING = cells.from_bytes(b"", b"")
"""No rows: everything at its prior."""


class Keeper:
    """Keeps the beliefs fresh, in a thread of its own, and knows whether routing is off."""

    def __init__(self, configuration: Configuration, address: Address, state_dir: Path) -> None:
        scopes = choices.seeds(configuration)
        self.current = believe(configuration, NOTHING, version=0, scopes=scopes)
        self.off = False
        self.store_up = False
        self.n_refreshed = 0
        self.new_names: dict[str, str] = {}  # digest -> name, to be told to the store
        self._configuration = configuration
        self._address = address
        self._off_file = state_dir / OFF_FILE
        self._wanted: dict[Scope, None] = {}
        self._next_look = 0.0  # monotonic seconds
        self._review_at_ms = 0  # the next review that is due by time
        self._refused = False  # the last review could not be written
        self._looked = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beliefs", daemon=True)

    def start(self) -> None:
        """Begin to follow the store."""
        self._look_at_switch(None)
        self._thread.start()
        self._looked.wait(FIRST_LOOK_S)

    def want(self, scope: Scope) -> None:
        """Keep the choices of a scope from the next refresh on."""
        if choices.is_current(scope, self._configuration):
            self._wanted[scope] = None

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(2)

    @property
    def age_s(self) -> float:
        """How old the current posteriors are."""
        return time.monotonic() - self.current.built_at

    def _run(self) -> None:
        with closing(connect(self._address, timeout_s=0.5)) as client:
            self._follow(client)

    def _follow(self, client: Client) -> None:
        reader = Reader(
            client,
            self._configuration.store.shards,
            key_bytes=cells.KEY.itemsize,
            row_bytes=8 * cells.N_COLUMNS,
        )
        ledger, watches = Ledger(client), Alarms(client)
        wakeup = Wakeup(connect(self._address, timeout_s=0.5))
        stale = False
        while not self._stop.is_set():
            began, cpu_s = time.monotonic(), time.thread_time()
            looks = began >= self._next_look
            if looks:
                self._next_look = began + LOOK_EVERY_S
            try:
                # Looked at before the rows: a store that has lost them says so by then.
                seen = (ledger.look(), watches.look()) if looks else None
                stale |= reader.poll()
                if seen is not None and not reader.keeping:
                    stale |= ledger.take(seen[0])
                    stale |= watches.take(seen[1])
                if stale or self._is_due():
                    self._refresh(reader, ledger, watches)
                    stale = False
                if looks and not reader.keeping:
                    stale = self._close_bucket(reader, watches)
                self._tell_names(client)
                self.store_up = True
            except StoreErrors:
                self.store_up = False
            except Exception as error:  # whatever it is, the switch must go on being looked at
                log.error("posteriors could not be refreshed", error=type(error).__name__)
            self._looked.set()
            if looks:
                self._look_at_switch(client if self.store_up else None)
            busy_s = time.thread_time() - cpu_s  # to wait for the store is no work
            rest = min(max(DEBOUNCE_S, busy_s / MAX_BUSY_SHARE), LOOK_EVERY_S)
            if self.store_up:
                wakeup.wait(self._stop, at_least_s=rest, at_most_s=max(POLL_S, rest))
            else:  # to ask it for a subscription would only hold up the look at the switch
                wakeup.close()
                self._stop.wait(max(POLL_S, rest))
        wakeup.close()

    def _is_due(self) -> bool:
        """Return whether a scope was asked for, or has its review, although no row changed."""
        new = any(scope not in self.current.choices for scope in list(self._wanted))
        return new or time.time() * 1000 >= self._review_at_ms

    def _close_bucket(self, reader: Reader, watches: Alarms) -> bool:
        """Look once a minute whether an endpoint changed; return whether to believe otherwise."""
        now_ms = int(time.time() * 1000)
        if not watches.is_due(reader.incarnation, now_ms=now_ms):
            return False
        rows, catalog = cells.from_bytes(*reader.rows()), self._configuration.catalog
        posterior, incarnation = self.current.posterior, reader.incarnation
        try:
            return watches.close(rows, posterior, catalog, incarnation, now_ms=now_ms)
        except StoreErrors:  # it is away, or full: the writer says so
            return False

    def _refresh(self, reader: Reader, ledger: Ledger, watches: Alarms) -> None:
        used = list(self.current.banks)
        rows = cells.from_bytes(*reader.rows())
        scopes = known_scopes(self._configuration, ledger.kept, list(self._wanted))
        fresh = believe(
            self._configuration,
            rows,
            version=reader.version,
            scopes=scopes,
            kept=ledger.kept,
            watches=watches.known,
        )
        if self._review(fresh, ledger, scopes):
            again = _choices(self._configuration, fresh.posterior, rows, scopes, ledger.kept)
            fresh = replace(fresh, choices=again)
        for category, exact in used:
            fresh.bank(category, exact=exact)
        self.current = fresh
        self.n_refreshed += 1

    def _review(self, beliefs: Beliefs, ledger: Ledger, scopes: list[Scope]) -> bool:
        """Review what is due; return whether any standings were changed."""
        now_ms = int(time.time() * 1000)
        alarmed_at_ms = alarms.by_group(self._configuration.catalog, beliefs.known)
        changed = False
        next_ms = [now_ms + LONGEST_MS]
        for scope in scopes:
            found = choices.review(
                scope,
                ledger.kept.get(scope),
                beliefs.posterior,
                self._configuration,
                now_ms=now_ms,
                alarmed_at_ms=alarmed_at_ms,
            )
            if found is not None:
                written = self._write(ledger, *found, now_ms=now_ms)
                changed |= written
                if not written:
                    next_ms.append(now_ms)
            if scope in ledger.kept:
                strategy = self._configuration.strategies[scope.strategy]
                reviewed_at_ms = ledger.kept[scope].reviewed_at_ms
                next_ms.append(int(reviewed_at_ms + strategy.release_every_s * 1000))
        self._review_at_ms = max(min(next_ms), now_ms + int(LOOK_EVERY_S * 1000))
        return changed

    def _write(self, ledger: Ledger, kept: Kept, released: list[Change], *, now_ms: int) -> bool:
        """Return whether the scope's standings were changed; if not, look who was faster."""
        self._next_look = 0.0
        try:
            written = ledger.change(kept, released, now_ms=now_ms)
            self._refused = False
            return written
        except StoreErrors as error:  # a full store still answers: posteriors go on
            if not self._refused:
                log.warning("the store refuses a review", reason=type(error).__name__)
            self._refused = True
            return False

    def _tell_names(self, client: Client) -> None:
        """Write what digests stand for, so that reports can name what is not configured."""
        if names := dict(self.new_names):
            client.hset(keys.NAMES, mapping=names)
            for digest in names:
                self.new_names.pop(digest, None)

    def _look_at_switch(self, client: Client | None) -> None:
        """A file in the state directory switches off whoever shares it, the store the others."""
        off = self._off_file.exists()
        if not off and client is not None:
            try:
                off = bool(client.exists(keys.OFF))
            except StoreErrors:
                off = self.off
        if off is not self.off:
            log.warning("routing is switched off" if off else "routing is switched on")
        self.off = off
