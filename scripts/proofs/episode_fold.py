"""What stands between a sidecar without a store and what it believes: the code that folds.

Records are read from its journal, cut into frames, taken apart and folded; feedback by reference
is joined; endpoints are watched, choices reviewed. Times are handed in. What is left out: the store
itself and its scripts, leases, and waiting for other processes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import fakeredis
import numpy as np

from bandit import cells
from bandit.families import P
from bandit.parts import key_of, read_roles
from router.beliefs import reviews
from router.beliefs.alarms import Alarms, by_group
from router.beliefs.beliefs import believe
from router.beliefs.kept import Kept, ReviewKey
from router.beliefs.review_keys import known_review_keys
from router.config.compiled import Configuration
from scripts.proofs.within import SidecarWithin
from telemetry import frames, journal
from telemetry.events import INTENT
from telemetry.references import in_order, names_in, token_in
from telemetry.tokens import role_mark, shard_of
from workers.folding.batch import Decision, Entries, Window, take_apart
from workers.folding.effects import effects
from workers.folding.held import _addressed
from workers.folding.resolution import WaitingFeedback

READ_RECORDS = 8192
INCARNATION = b"simulated"


class FoldedWithin:
    """The rows of a sidecar, and its beliefs after each look at them."""

    def __init__(self, within: SidecarWithin, configuration: Configuration) -> None:
        """Begin with no evidence."""
        self.within, self.configuration = within, configuration
        self.rows = cells.merge([])
        self.counts: Counter[str] = Counter()
        self.released: Counter[str] = Counter()  # by role
        self._labels: dict[Decision, bytes] = {}
        self._named: dict[bytes, list[bytes]] = defaultdict(list)  # decisions by what names them
        self._windows: dict[bytes, Window] = {}
        self._kept: dict[ReviewKey, Kept] = {}
        self._segment: journal.Segment | None = None
        self._n_looks = 0
        self._alarms = _alarms()
        self.look()

    def look(self) -> None:
        """Fold what came, close the watch's bucket, review what is due, and believe."""
        self._n_looks += 1
        now_ms = int(self.within.clock().epoch_s * 1000)
        entries = self._read(now_ms)
        while entries:  # what was said of an episode comes again, addressed to its decisions
            entries = self._fold(entries, now_ms)
        self._believe(now_ms)
        if self._watch(now_ms) | self._review(now_ms):
            self._believe(now_ms)

    def labels(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return by role and endpoint how many labels count, and their sum in thousandths."""
        digests = {e.digest: e.id for e in self.configuration.catalog.endpoints}
        found = read_roles(self.rows)
        out = {}
        for role in self.configuration.roles:
            key = int(key_of(np.array([role_mark(role)], dtype=np.uint16))[0])
            for digest, sums in found.get(key, {}).items():
                if n := round(sums[P.LABELS]):
                    out[role, digests[digest]] = n, round(1000 * sums[P.REWARD])
        return out

    def _read(self, now_ms: int) -> Entries:
        """Return what the journal has that was not folded yet, as stream entries would bring it."""
        entries: Entries = []
        while segment := self._current():
            data = segment.read(READ_RECORDS)
            if not data:
                break
            for frame in frames.cut(data, segment.producer, segment.bases, version=segment.version):
                if frame.body[0] < INTENT:
                    entries.append((_entry_id(now_ms, entries), {b"f": frames.pack(frame)}))
            segment.offset += len(data)
        return entries

    def _current(self) -> journal.Segment | None:
        """Return the segment that is read: the next one where one is done."""
        paths = journal.segments(self.within.sidecar.writer.root / self._producer)
        known = self._segment
        if known is None or (not known.read(1) and known.path != paths[-1]):
            later = [path for path in paths if known is None or path > known.path]
            self._segment = journal.Segment.open(later[0])
        return self._segment

    @property
    def _producer(self) -> str:
        return self.within.sidecar.writer.producer.hex()

    def _fold(self, entries: Entries, now_ms: int) -> Entries:
        """Fold stream entries; return those that say again what was said of several decisions."""
        batch = take_apart(entries, self._windows)
        self._windows.update(batch.windows)
        found = effects(batch, self._labels)
        self._labels.update(found.labels)
        self.counts.update(found.counts)
        self.rows = cells.merge([self.rows, found.terms])
        for record in found.outcomes:
            raw = record.tobytes()
            for name in names_in(raw):
                self._named[name].append(token_in(raw))
        again: Entries = []
        for record in found.waiting:
            waiting = WaitingFeedback(record["event"].tobytes(), record, record.tobytes())
            for meant in waiting.before(in_order(self._named[waiting.reference])) or []:
                body = _addressed(record, meant)
                frame = frames.Frame(frames.UNNUMBERED, shard_of(meant), 0, body)
                again.append((_entry_id(now_ms, again), {b"f": frames.pack(frame)}))
        return again

    def _believe(self, now_ms: int) -> None:
        keeper = self.within.sidecar.keeper
        keeper.current = believe(
            self.configuration,
            self.rows,
            version=self._n_looks,
            review_keys=self._review_keys(),
            kept=self._kept,
            watches=self._alarms.known,
            now_ms=now_ms,
        )

    def _review_keys(self) -> list[ReviewKey]:
        wanted = list(self.within.sidecar.keeper._wanted)
        return known_review_keys(self.configuration, self._kept, wanted)

    def _watch(self, now_ms: int) -> bool:
        """Return whether an endpoint is known to have changed."""
        if not self._alarms.is_due(INCARNATION, now_ms=now_ms):
            return False
        before = {d: one.alarm for d, one in self._alarms.known.items()}
        posterior = self.within.sidecar.keeper.current.posterior
        changed = self._alarms.close(
            self.rows, posterior, self.configuration, INCARNATION, now_ms=now_ms
        )
        for digest, one in self._alarms.known.items():
            self.counts["alarms"] += one.alarm is not None and one.alarm != before.get(digest)
        return changed

    def _review(self, now_ms: int) -> bool:
        """Return whether a choice changed, as a keeper reviews them."""
        beliefs, changed = self.within.sidecar.keeper.current, False
        for key in self._review_keys():
            found = reviews.review(
                key,
                self._kept.get(key),
                beliefs.posterior_of(key.app),
                self.configuration,
                now_ms=now_ms,
                alarmed_at_ms=by_group(self.configuration.catalog, beliefs.known),
                places=beliefs.places[self.configuration.apps[key.app].outlook],
            )
            if found is not None:
                self._kept[key], notices = found
                self.released[key.role] += len(notices)
                changed = True
        return changed


def _entry_id(now_ms: int, before: Entries) -> bytes:
    return b"%d-%d" % (now_ms, len(before))


def _alarms() -> Alarms:
    """Return watches over a store of their own."""
    client: Any = fakeredis.FakeRedis(server=fakeredis.FakeServer())
    out = Alarms(client)
    out.take(out.look())
    return out
