"""The sidecar: its parts, their start and end; a composition root."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import httpx

from router.beliefs.keeper import Keeper
from router.budgets.allowances import Allowances
from router.budgets.exploring import ExploringCeilings
from router.budgets.rate_allowances import RateAllowances
from router.budgets.turned_away import Turnings
from router.budgets.watch import BudgetWatch
from router.config.compiled import Configuration
from router.config.watch import WatchedFile
from router.decision.context import Moment
from router.decision.contexts import Contexts
from router.decision.decide import Decider
from router.decision.draws import Draws
from router.decision.seal import Seal
from router.decision.sealing import SealingKeys
from router.decision.sessions import Sessions
from router.decision.stored_ids import StoredIds
from router.dispatch.booking import Booking
from router.dispatch.call import Calls
from router.dispatch.dispatcher import Dispatcher
from router.dispatch.in_force import ConfigurationTeller
from router.dispatch.intents import Intents
from router.dispatch.observer_line import ObserverLine
from router.dispatch.passing import Passing
from router.dispatch.passthrough import Passthrough
from router.dispatch.rates import ProviderLimits
from router.dispatch.recent import RecentNames
from router.dispatch.spending import Spending
from router.dispatch.traces import hosts_of
from router.endpoints.health import Health
from router.endpoints.upkeep import Upkeep
from router.explain.desk import ExplainDesk, opener
from router.explain.log import DecisionLog
from router.explain.shared import SharedDecisions, bound_now
from router.intake.events import EventDesk
from router.intake.feedback import FeedbackDesk
from router.intake.forget import ForgetDesk
from router.net.admission import Admission
from router.net.bodies import BodyBudget
from router.net.pool import Adapted, Pool, Upstream
from router.notices.chronicle import Chronicle
from router.notices.sender import NoticeSender
from router.report import views
from router.report.budget_desk import BudgetDesk
from router.report.budget_gauges import budget_gauges
from router.report.endpoints import endpoint_gauges
from router.report.face.desk import PageDesk
from router.report.gauges import gauges
from router.report.ledger_desk import LedgerDesk
from router.report.owners_desk import OwnersDesk
from router.report.page_reader import PageReader
from router.report.report_desk import ReportDesk
from router.routes import Routes, Services, now
from telemetry.clock import StoreClock
from telemetry.metrics import Exposition, Metrics
from telemetry.processes import calm_collector
from telemetry.store import Address, connect
from telemetry.writer import Counters, Writer

FEEDBACK_TIMEOUT_S = 0.5
MAX_AT_DESK = 2048
"""Feedback and events under way: each takes milliseconds, half a second while a store is away."""


class Sidecar:
    """What a sidecar is made of, and in which order that starts and ends."""

    def __init__(
        self,
        configuration: Configuration,
        address: Address,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        observing: bool = False,
        clock: Callable[[], Moment] = now,
        file: Path | None = None,
    ) -> None:
        """Build everything; nothing starts.

        Args:
            file: what the configuration was read from; a change of it is taken while we run.
            observing: start an observer, which reads labels off finished calls.
        """
        state_dir = configuration.server.state_directory()
        n_shards = configuration.store.shards
        self.metrics = metrics = Metrics()
        watched = WatchedFile(file, configuration, state_dir) if file is not None else None
        self.keeper = Keeper(configuration, address, state_dir, watched)
        began = clock()
        ahead_s = began.epoch_s - began.monotonic_s
        steady = partial(_steady, clock, ahead_s)
        store_clock = StoreClock(steady)
        told_apart = partial(_told_apart, clock, ahead_s, store_clock)
        self.writer = Writer(
            state_dir / "journal",
            address,
            n_shards,
            Counters(dropped=metrics.dropped),
            clock=store_clock,
        )
        self.allowances = Allowances(address, lambda: self.writer.producer)
        self.rate_allowances = RateAllowances(address, lambda: self.writer.producer, clock=steady)
        self.draws = Draws(address, has_room=lambda: self.keeper.memory.has_room_for_draws)
        self.sessions = Sessions(address, has_room=lambda: self.keeper.memory.has_room_for_draws)
        self.ids = StoredIds(address, has_room=lambda: self.keeper.memory.has_room_for_ids)
        self.thoughts = StoredIds(address, has_room=lambda: self.keeper.memory.has_room_for_draws)
        self.health = Health()
        self.keeper.find_lost = lambda: self.health.lost(
            self.keeper.current.configuration.catalog, time.monotonic()
        )
        self.upkeep = Upkeep(
            on_new_key=lambda: self._on_new_key(),
            on_new_prices=lambda: self.keeper.file.ask() if self.keeper.file is not None else None,
            clock=lambda: clock().epoch_s,
        )
        self.observer = ObserverLine(state_dir, address, n_shards=n_shards) if observing else None
        self._asking = connect(address, timeout_s=FEEDBACK_TIMEOUT_S)  # of decisions, from threads
        shared = SharedDecisions(
            self._asking,
            bound=lambda: bound_now(configuration.store.explain_store_mb, self.keeper.memory.use),
            days=configuration.server.explain_days,
        )
        self.decisions = DecisionLog(
            state_dir / "decisions",
            days=configuration.server.explain_days,
            max_bytes=configuration.server.explain_max_bytes,
            shared=shared,
        )
        self._upstream: Upstream = Pool() if transport is None else Adapted(transport)
        entry = configuration.server
        self.admission = Admission(entry.max_in_flight, max_queued=entry.max_queued)
        self.budget = BodyBudget(entry.max_held_bytes)
        self._on_new_key: Callable[[], None] = lambda: None  # until there is a loop
        recent, secrets, served = RecentNames(), self.keeper.secrets, self.keeper.served
        self.sealing = SealingKeys(secrets.keyring, configuration)
        seal = Seal(self.sealing.known)
        booking = Booking(
            self.writer, seal, secrets.users, metrics, recent, served, n_shards=n_shards
        )
        self.teller = ConfigurationTeller(self.writer, n_shards=n_shards)
        self.intents = Intents(self.writer, self.teller, n_shards=n_shards)
        self.feedback = FeedbackDesk(
            self.writer,
            seal,
            connect(address, timeout_s=FEEDBACK_TIMEOUT_S),
            recent,
            secrets.keyring,
            n_shards=n_shards,
            is_store_up=lambda: self.keeper.store_up,
        )
        contexts = Contexts(
            self.keeper,
            self.health,
            self.draws,
            self.thoughts,
            secrets.draws,
            self.sessions,
            ExploringCeilings(self.allowances),
        )
        decider = Decider(contexts)
        turnings = Turnings(metrics.budgets_refused)
        spending = Spending(
            self.allowances,
            self.writer,
            ProviderLimits(
                self.rate_allowances,
                self.health.learnt,
                contexts.sizes,
                metrics.shares_spent,
                is_off=lambda: self.keeper.off,
            ),
            is_off=lambda: self.keeper.off,
            turnings=turnings,
        )
        self.watch = BudgetWatch(
            address,
            self.allowances,
            contexts.prices,
            n_shards=n_shards,
            beliefs=lambda: self.keeper.current,
            now_s=lambda: store_clock.now_ms() / 1000,
            warned=metrics.budgets_warned,
            turnings=turnings,
        )
        spending.folded = self.watch.folded
        self.chronicle = Chronicle(address, self.keeper, self.health, now_ms=store_clock.now_ms)
        self.watch.on_warned = self.chronicle.note_warning
        self.notices = NoticeSender(
            address,
            name=self.chronicle.name,
            wanted=lambda: self.keeper.current.configuration.notices,
            now_ms=store_clock.now_ms,
        )
        self.chronicle.more_troubles = self.notices.troubles
        self.ledger = LedgerDesk(address, lambda: self.keeper.current.configuration, file)
        self.calls = Calls(
            decider,
            Dispatcher(self._upstream, self.health, self.intents),
            booking,
            spending,
            ids=self.ids,
            thoughts=self.thoughts,
            observer=self.observer,
            note=self.decisions.put,
        )
        self.owners = OwnersDesk(
            keeper=self.keeper,
            health=self.health,
            allowances=self.allowances,
            exposition=Exposition(
                metrics,
                lambda: gauges(
                    self.keeper,
                    self.writer,
                    self.decisions,
                    self.draws,
                    self.ids,
                    self.observer,
                    self._upstream if isinstance(self._upstream, Pool) else None,
                    self.admission,
                    self.budget,
                    self.intents,
                ),
                lambda: (
                    *endpoint_gauges(self.keeper.current.configuration, self.health, clock()),
                    *budget_gauges(self.keeper.current.configuration, self.watch.totals()),
                ),
            ),
            clock=told_apart,
        )
        explain = ExplainDesk(
            (self.decisions.files, shared),
            self._asking,
            n_shards=n_shards,
            open_id=opener(seal, secrets.keyring, self._asking),
            flush=self.decisions.flush,
            recent=recent.of,
        )
        reader = PageReader(address, self.keeper, file, name=self.chronicle.name)
        self.routes = Routes(
            Services(
                keeper=self.keeper,
                decider=decider,
                calls=self.calls,
                passing=Passing(
                    contexts,
                    Passthrough(self._upstream, booking, spending, self.keeper.names, self.intents),
                    self.ids,
                    told_apart,
                ),
                feedback=self.feedback,
                forget=ForgetDesk(
                    address,
                    self.writer,
                    secrets.users,
                    self.draws.forget,
                    n_shards=n_shards,
                ),
                events=EventDesk(
                    self.writer,
                    self.feedback,
                    recent,
                    seal=seal,
                    secret=secrets.users,
                    tags=self.keeper.tag_names,
                    n_shards=n_shards,
                ),
                explain=explain,
                page=PageDesk(reader.read, explain, is_off=lambda: self.keeper.off),
                desks={
                    **self.owners.handlers(),
                    "/v1/router/ledger": self.ledger.tell,
                    "/v1/router/budgets": BudgetDesk(address, self.watch).tell,
                    "/v1/router/report": ReportDesk(reader.whole).tell,
                },
                metrics=metrics,
                admission=self.admission,
                desk=Admission(MAX_AT_DESK, max_queued=0),
                sending=self.writer.counters,
                clock=told_apart,
            )
        )

    def drain(self) -> None:
        """Take no new calls."""
        self.routes.draining = True

    async def start(self) -> None:
        """Start its parts, in the loop that it will serve in.

        Raises:
            OSError: the state directory cannot be used.
        """
        loop = asyncio.get_running_loop()
        self.keeper.on_taken = partial(_on_loop, loop, self._follow)
        self.keeper.forgotten.on_news = partial(_on_loop, loop, self.draws.forget)
        self._on_new_key = partial(_on_loop, loop, self._renew_keys)
        self._follow(self.keeper.current.configuration)
        self.writer.start()
        self.teller.start(self.keeper.current.configuration)
        self.keeper.start()
        self.allowances.start()
        self.rate_allowances.start()
        self.watch.start()
        self.draws.start()
        self.sessions.start()
        self.ids.start()
        self.thoughts.start()
        self.decisions.start()
        self.upkeep.start()
        self.ledger.start()
        self.chronicle.start()
        self.notices.start()
        if self.observer is not None:
            await self.observer.start()
        calm_collector()

    def _follow(self, configuration: Configuration) -> None:
        """Have what outlives a configuration go on under this one."""
        self.health.follow(configuration.catalog, time.monotonic())
        self.sealing.follow(configuration)
        self.keeper.names.add_all(views.names_of(configuration))
        self.keeper.names.add_all(hosts_of(configuration))
        self.upkeep.follow(configuration.catalog)
        self.teller.follow(configuration)

    def _renew_keys(self) -> None:
        self.health.renew_keys(self.keeper.current.configuration.catalog, time.monotonic())

    async def stop(self) -> None:
        """End its parts, once nothing is under way."""
        await self.watch.stop()
        await self.draws.stop()
        await self.sessions.stop()
        await self.ids.stop()
        await self.thoughts.stop()
        if self.observer is not None:
            await self.observer.stop()
        await self._upstream.aclose()
        # By now every attempt has ended.
        await asyncio.gather(self.allowances.stop(), self.rate_allowances.stop())
        self.upkeep.stop()
        await asyncio.to_thread(self.notices.stop)
        await asyncio.to_thread(self.chronicle.stop)
        self.ledger.stop()
        self.keeper.stop()
        self.feedback.close()
        await self.teller.stop()
        await asyncio.to_thread(self.writer.close)
        await asyncio.to_thread(self.decisions.close)
        self._asking.close()


def _steady(clock: Callable[[], Moment], ahead_s: float) -> float:
    """Return epoch seconds by a clock that began like another one, and that nobody sets."""
    return clock().monotonic_s + ahead_s


def _told_apart(clock: Callable[[], Moment], ahead_s: float, store_clock: StoreClock) -> Moment:
    """Return the time, and how far the store's clock is ahead of it.

    Args:
        ahead_s: how far the steady clock is ahead of the monotonic one.
    """
    at = clock()
    now, steady_s = at.monotonic_s, at.monotonic_s + ahead_s
    store_ms = int(steady_s * 1000 + store_clock.offset_ms)
    return Moment(at.epoch_s, now, store_ms - at.epoch_s * 1000)


def _on_loop(loop: asyncio.AbstractEventLoop, change: Callable[..., object], *of: object) -> None:
    """Call from another thread what changes things of the loop's."""
    loop.call_soon_threadsafe(change, *of)
