"""The thread that keeps what is known fresh: posteriors, choices, alarms, and the off switch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import structlog

from bandit import cells
from bandit.families import N_COLUMNS
from router.beliefs import alarms, choices, reviews, splits
from router.beliefs.alarms import Alarms
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.damage import DamageNotices
from router.beliefs.episodes import SeenEpisodes
from router.beliefs.followed import Followed
from router.beliefs.forgotten import Forgotten
from router.beliefs.history import BeliefHistory
from router.beliefs.kept import Kept, ReleaseNotice, ReviewKey
from router.beliefs.kept_switch import KeptSwitch
from router.beliefs.names import Names
from router.beliefs.outlooks import tasks_of
from router.beliefs.prompts import PromptVersions
from router.beliefs.releases import Releases
from router.beliefs.review_keys import is_current, known_review_keys, seeds
from router.beliefs.seen_trials import SeenTrials
from router.beliefs.served import ServedModels
from router.beliefs.store_memory import SeenMemory
from router.beliefs.switch import Switch
from router.beliefs.tag_names import TagNames
from router.beliefs.teachers import with_teachers
from router.beliefs.trials import of_key, settle, under_trials
from router.beliefs.yielding import yielded
from router.config.compiled import Configuration
from router.config.watch import WatchedFile
from router.errors import Problem
from telemetry import jobs_trouble
from telemetry.jobs_trouble import JobsTrouble
from telemetry.pacer import Pacer
from telemetry.reader import FRESH_S, NO_RATERS, Reader
from telemetry.store import Address, Client, StoreErrors, connect
from telemetry.store_secrets import SeenSecrets, StoreSecrets
from telemetry.trouble import StoreTrouble, trouble_of
from telemetry.wakeup import Wakeup

log = structlog.get_logger()

LOOK_EVERY_S = 0.8
"""How often off switch and standings are looked at: `off` takes effect within a second. So often
the rows are, too, where no message tells of a commit."""
AWAY_S = 0.25
"""A store that is away is asked so often."""

LONGEST_MS = 86_400_000
"""Reviews that are due by time are looked for once a day at least."""

FIRST_LOOK_S = 1.0
"""A start waits so long for the store, so that its first draws know the choices."""


NOTHING = cells.from_bytes(b"", b"")
"""No rows: everything at its prior."""


class Keeper:
    """Keeps the beliefs fresh, in a thread of its own, and knows whether routing is off."""

    def __init__(
        self,
        configuration: Configuration,
        address: Address,
        state_dir: Path,
        file: WatchedFile | None = None,
    ) -> None:
        """Believe in nothing yet.

        Args:
            file: what the configuration was read from, and is taken anew from when it changes.
        """
        review_keys = configuration.derive(seeds)
        self.current = believe(configuration, NOTHING, version=0, review_keys=review_keys)
        self.switch = Switch()
        self.store_up = False
        self.trouble: StoreTrouble | None = None  # why the store could not be read
        self.references: dict[str, int] = {}  # what became of feedback by them
        self.raters = NO_RATERS
        self.memory = SeenMemory()  # of the store
        self.jobs: JobsTrouble | None = None  # why a worker runs none
        self.forgotten = Forgotten()
        self.episodes = SeenEpisodes()
        self.history = BeliefHistory()
        self.names = Names()
        self.tag_names = TagNames()
        self.prompts = PromptVersions()
        self.served = ServedModels()
        self.secrets = StoreSecrets(state_dir)
        self.file = file
        self.settles = True  # reviews choices and looks for changes; else it only follows
        self.on_taken: Callable[[Configuration], None] = lambda configuration: None
        self.find_lost: Callable[[], frozenset[str]] = frozenset
        self._lost = frozenset[str]()  # ids of endpoints that are away for so long
        self._configuration = configuration
        self._address = address
        self._kept_switch = KeptSwitch(state_dir)
        self._wanted: dict[ReviewKey, None] = {}
        self._next_look = 0.0  # monotonic seconds
        self._review_at_ms = 0  # the next review that is due by time
        self._refused = False  # the last review could not be written
        self._damage = DamageNotices()
        self._looked = threading.Event()
        self._stop = threading.Event()
        self._wakeup: Wakeup | None = None  # where the thread sleeps
        self._thread = threading.Thread(target=self._run, name="beliefs", daemon=True)

    def start(self) -> None:
        """Begin to follow the store."""
        self._look_at_switch()
        self._thread.start()
        self._looked.wait(FIRST_LOOK_S)

    def want(self, review_key: ReviewKey) -> None:
        """Keep the choices of a review key from the next refresh on."""
        if is_current(review_key, self._configuration):
            self._wanted[review_key] = None

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._wakeup is not None:
            self._wakeup.rouse()
        self._thread.join(2)

    @property
    def off(self) -> bool:
        """Whether routing is switched off."""
        return self.switch.off

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
            row_bytes=8 * N_COLUMNS,
        )
        followed = Followed(client, reader, Releases(client), Alarms(client), SeenTrials(client))
        wakeup = self._wakeup = Wakeup(connect(self._address, timeout_s=0.5))
        pacer = Pacer(FRESH_S)
        n_events = 0
        while not self._stop.is_set():
            pacer.begin()
            rest_s = 0.0
            if self._round(followed):
                rest_s = pacer.rest_s(max(reader.n_events - n_events, 0))
            n_events = reader.n_events
            if self.store_up:
                left_s = self._next_look - time.monotonic()
                wakeup.wait(self._stop, at_least_s=rest_s, at_most_s=max(left_s, rest_s))
            else:  # to ask it for a subscription would only hold up the look at the switch
                wakeup.close()
                self._stop.wait(AWAY_S)
        wakeup.close()

    def _round(self, followed: Followed) -> bool:
        """Look at the store, and now and then at the switch; return whether there was news."""
        began = time.monotonic()
        looks = began >= self._next_look
        if looks:
            self._next_look = began + LOOK_EVERY_S
            self._look_at_file(followed)
        is_new = False
        try:
            is_new = self._read(followed, looks=looks)
            self.store_up, self.trouble = True, None
        except StoreErrors as error:  # the writer logs it
            self.store_up, self.trouble = False, trouble_of(error)
        except Exception as error:  # whatever it is, the switch must go on being looked at
            log.error("posteriors could not be refreshed", error=type(error).__name__)
        self._looked.set()
        if looks:
            self._look_at_switch()
        return is_new

    def _look_at_file(self, followed: Followed) -> None:
        """Let another configuration go into force, whether the store answers or not.

        Calls under way end under the one that they started with.
        """
        file, before = self.file, self._configuration
        taken = file.look(time.monotonic(), before) if file is not None else None
        if file is None or taken is None:
            return
        self._configuration = taken.configuration
        if followed.names is not None:
            followed.names = {**followed.names, **tasks_of(before)}
        try:
            self._refresh(followed)
        except Exception as error:  # nothing of it may stop the thread
            self._configuration = before
            hint = f"internal error ({type(error).__name__})"
            file.refuse([Problem(0, "file", "", hint)], version=taken.configuration.version)
            return
        file.accept(taken)
        self.on_taken(taken.configuration)

    def _read(self, followed: Followed, *, looks: bool) -> bool:
        """Believe what changed; return whether anything had."""
        reader, releases, watches = followed.reader, followed.releases, followed.watches
        seen, changed = followed.look() if looks else (None, reader.poll())
        followed.stale |= changed
        self.references = reader.references
        self.raters = reader.raters
        if seen is not None:
            self._agree(followed, seen.secrets)
            self._kept_switch.hear(followed.client, seen.off, seen.on)
            self.memory.look(followed.client, seen.memory)
            self.jobs = jobs_trouble.parse(seen.jobs)
            self.forgotten.take(seen.forgotten)
            self.episodes.take(seen.episodes)
            self.served.exchange(followed.client)
            if not reader.keeping:
                followed.stale |= releases.take(seen.standings)
                followed.stale |= watches.take(seen.watches)
                followed.stale |= followed.trials.take(seen.trials)
                followed.stale |= self.prompts.take(seen.prompts)
        is_new = followed.stale or self._is_due()
        if is_new:
            followed.read_names()
            self._refresh(followed)
            followed.stale = False
        if looks and self.settles and not reader.keeping:
            now_ms = int(time.time() * 1000)
            self.history.note(self.current, now_ms=now_ms, store=reader.incarnation)
            followed.stale = self._close_bucket(followed)
            followed.stale |= self._settle_prompts(followed)
        self.names.tell(followed.client)
        self.tag_names.tell(followed.client)
        return is_new

    def _agree(self, followed: Followed, seen: SeenSecrets) -> None:
        """Know the store's secrets; without that of users calls are booked without their user."""
        with suppress(*StoreErrors):  # one that takes no writes still brings posteriors
            self.secrets.agree(followed.client, seen)

    def _is_due(self) -> bool:
        """Return whether a review key was asked for, or has its review, although no row changed."""
        wanted = [key for key in list(self._wanted) if is_current(key, self._configuration)]
        new = any(review_key not in self.current.choices for review_key in wanted)
        lost, self._lost = self._lost, self.find_lost()
        return new or lost != self._lost or time.time() * 1000 >= self._review_at_ms

    def _close_bucket(self, followed: Followed) -> bool:
        """Look whether an endpoint changed; return whether to believe otherwise."""
        reader, watches = followed.reader, followed.watches
        now_ms, incarnation, version = int(time.time() * 1000), reader.incarnation, reader.version
        if not watches.is_due(incarnation, now_ms=now_ms, version=version):
            return False
        rows, known = followed.read_rows(), self.current
        catalog = known.configuration.catalog
        found = splits.compare_hosts(catalog, known.given_labels)
        try:
            return watches.close(
                rows,
                known.posterior,
                known.configuration,
                incarnation,
                now_ms=now_ms,
                version=version,
                splits=splits.find_splits(catalog, found, now_ms=now_ms),
            )
        except StoreErrors:  # it is away, or full: the writer says so
            return False

    def _settle_prompts(self, followed: Followed) -> bool:
        """Look whether calls named new versions of prompts; return whether to believe otherwise."""
        now_ms = int(time.time() * 1000)
        try:
            return self.prompts.settle(
                followed.client, self.current, followed.read_rows, self.names, now_ms
            )
        except StoreErrors:  # as above
            return False

    def _refresh(self, followed: Followed) -> None:
        reader, releases, watches = followed.reader, followed.releases, followed.watches
        rows = followed.read_rows()
        review_keys = known_review_keys(self._configuration, releases.kept, list(self._wanted))
        fresh = believe(
            self._configuration,
            rows,
            version=reader.version,
            review_keys=review_keys,
            kept=releases.kept,
            watches=watches.known,
            names=self.names.beside(followed.names),
            opened=self.prompts.opened,
        )
        if self._review(fresh, followed, review_keys):
            again = choices.weigh_all(
                review_keys,
                releases.kept,
                [outlook.posterior for outlook in fresh.outlooks],
                rows,
                fresh.configuration,
                now_ms=int(time.time() * 1000),
                places=fresh.places,
            )
            fresh = replace(fresh, choices=again)
        trials = followed.trials.in_force(int(time.time() * 1000))
        fresh.choices = under_trials(fresh.choices, releases.kept, trials, fresh.configuration)
        self._damage.tell(fresh.outlooks, fresh.configuration)
        # Before anybody compares: what labels count for may be another thing from here on.
        self.history.note(fresh, now_ms=int(time.time() * 1000), store=reader.incarnation)
        self.current = fresh

    def _review(self, beliefs: Beliefs, followed: Followed, review_keys: list[ReviewKey]) -> bool:
        """Review what is due; return whether any standings were changed."""
        releases = followed.releases
        if not self.settles:
            self._review_at_ms = int(time.time() * 1000) + LONGEST_MS
            return False
        now_ms, configuration = int(time.time() * 1000), beliefs.configuration
        alarmed_at_ms = alarms.by_group(configuration.catalog, beliefs.known)
        fallen_at_ms = alarms.fallen_by_group(configuration.catalog, beliefs.known)
        seen = followed.trials
        seen.end(releases.kept, configuration, now_ms, fallen_at_ms, self._lost)
        trials = seen.in_force(now_ms).values()
        changed = False
        next_ms = [now_ms + LONGEST_MS, *seen.when_overdue(now_ms)]
        for review_key in review_keys:
            mine = of_key(trials, review_key, configuration)
            # Before any review: what a trial showed is its reason, and not what is believed.
            if review_key in releases.kept:
                over = settle(releases.kept[review_key], mine, configuration, now_ms=now_ms)
                changed |= over is not None and self._write(releases, *over, now_ms=now_ms)
            kept = releases.kept.get(review_key)
            found = reviews.review(
                review_key,
                kept,
                beliefs.posterior_of(review_key.app),
                configuration,
                now_ms=now_ms,
                alarmed_at_ms=alarmed_at_ms,
                fallen_at_ms=fallen_at_ms,
                lost=self._lost,
                held=mine.held,
                places=beliefs.places[configuration.apps[review_key.app].outlook],
            )
            if found is None:
                weighed, tasks = beliefs.choices.get(review_key), configuration.task_index
                found = yielded(weighed, kept, tasks, now_ms=now_ms)
            if found is not None:
                written = self._write(releases, *with_teachers(*found, beliefs), now_ms=now_ms)
                changed |= written
                if not written:
                    next_ms.append(now_ms)
            if review_key in releases.kept:
                strategy = configuration.strategies[review_key.strategy]
                reviewed_at_ms = releases.kept[review_key].reviewed_at_ms
                next_ms.append(int(reviewed_at_ms + strategy.release_every_s * 1000))
        self._review_at_ms = max(min(next_ms), now_ms + int(LOOK_EVERY_S * 1000))
        return changed

    def _write(
        self, releases: Releases, kept: Kept, released: list[ReleaseNotice], *, now_ms: int
    ) -> bool:
        """Return whether a key's standings were changed; if not, look who was faster."""
        self._next_look = 0.0
        try:
            written = releases.change(kept, released, now_ms=now_ms)
            self._refused = False
            return written
        except StoreErrors as error:  # a full store still answers: posteriors go on
            if not self._refused:
                log.warning("the store refuses a review", **trouble_of(error).told())
            self._refused = True
            return False

    def _look_at_switch(self) -> None:
        """Go by the last word, whether it was said in the state directory or to the store."""
        switch = self._kept_switch.look()
        if switch.off is not self.off:
            log.warning("routing is switched off" if switch.off else "routing is switched on")
        self.switch = switch
