"""The periodic jobs, and the only functions that a job may name.

Every one may be killed anywhere and run twice. Jobs travel as JSON and carry no arguments: where
store and archive are is known to the process that runs them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import chain

import numpy as np
import structlog
from numpy.typing import NDArray

from telemetry import keys
from telemetry.layouts import RECORD
from telemetry.saving_state import STATE_FIELD
from workers.archive import audit, retention, upkeep
from workers.archive import files as archive_files
from workers.archive.archive import Archive, identity
from workers.archive.files import Damaged
from workers.archive.thaw import MAX_ROUND
from workers.folding.batch import take_apart
from workers.jobs import availability, burials, calibration, comparisons, recent, savings, spenders
from workers.jobs.choices_known import known_choices
from workers.jobs.episodes import DAYS, figures
from workers.jobs.place import Place
from workers.jobs.questions import DAY_S, EVERY_S, OFTEN_S
from workers.jobs.suggestions import Guesses
from workers.jobs.worker import ALLOWED, JobsStopped

log = structlog.get_logger()

MAX_AUDIT_BYTES = 2 << 30
"""Some minutes of one core, each day. Larger archives are audited by hand."""
MAX_READ_BYTES = 256 << 20
"""Of compressed records: under a minute."""
MAX_SAVINGS_BYTES = 128 << 20
"""Of compressed records, from which savings are summed up: their calls are held all at once. Days
before them keep the sums that they had."""
MAX_TAIL_BYTES = 64 << 20
"""Of records that are in no file yet: some seconds. With as many in a shard a file is due."""
_place: list[Place] = []
"""At most one. A job is found by its name, so it cannot be handed anything."""


def work_at(place: Place) -> None:
    """Say where the jobs of this process work."""
    _place[:] = [place]


def take() -> int:
    """Archive what is due, of the audit trail too; return how many files were written."""
    archive, every_s = _place[0].archive(), _place[0].every_s
    try:
        if _place[0].keep.days == 0:
            archive.skip()
            return 0
        return len(archive.take(now_ms=_now_ms(), every_s=every_s))
    finally:  # neither waits for the other to be well
        _place[0].trail().take(now_ms=_now_ms(), every_s=every_s)


def prune() -> int:
    """Delete what the archive need not keep; return how many files."""
    n = _place[0].trail().prune(days=_place[0].trail_days, now_ms=_now_ms())
    return n + retention.prune(_place[0].archive(), _place[0].keep, now_ms=_now_ms())


def thaw() -> int:
    """Put back the old decisions of which something was said; return for how many words.

    Where there is no archive, such words become dead letters.
    """
    archive = _place[0].archive()
    _place[0].thawing.looked_at = time.monotonic()
    if _place[0].keep.days == 0:
        holder = archive.client.get(keys.ARCHIVER)
        if holder is not None and holder.decode() != identity(_place[0].root):
            return 0  # another one takes the records, and knows
        return _place[0].thawing.give_up(archive.client, archive.n_shards)
    if not archive.holds():
        return 0
    n = _place[0].thawing.look(archive)
    total, until = n, time.monotonic() + OFTEN_S
    while n >= MAX_ROUND and time.monotonic() < until and not _place[0].stop.is_set():
        n = _place[0].thawing.look(archive)  # more waits
        total += n
    return total


def index() -> int:
    """Make what indexes of the archive are missing, of earlier versions' files too; how many."""
    return upkeep.ensure(_place[0].archive(), between=_breathe)


def check() -> dict[str, object]:
    """Audit the state, and leave what was found in the store."""
    archive = _place[0].archive()
    if _place[0].keep.days == 0 or not archive.holds():
        return {}
    size = sum(file.path.stat().st_size for file in _files(archive))
    if size > MAX_AUDIT_BYTES:
        log.info("the archive is too large to audit by itself: pointsman audit state", bytes=size)
        return {}
    found = audit.audit_state(archive, between=_breathe)
    if not found.equal:
        log.error("the state is not what the records say", difference=found.difference)
    return _leave(archive, keys.AUDIT, found.as_json())


def calibrate() -> dict[str, object]:
    """Compare the last day's predictions with the labels that came; leave that in the store."""
    archive = _place[0].archive()
    if _place[0].keep.days == 0 or not archive.holds():
        return {}
    parts = [np.empty(0, dtype=RECORD), *_records(archive, days=1)]
    held = calibration.calibrate(np.concatenate(parts))
    return _leave(archive, keys.CALIBRATION, {"endpoints": [h.as_json() for h in held]})


def measure() -> dict[str, object]:
    """Count how often endpoints answered in the last days; leave that in the store."""
    archive = _place[0].archive()
    if _place[0].keep.days == 0 or not archive.holds():
        return {}
    since_ms = _now_ms() - int(availability.DAYS * DAY_S * 1000)
    found = availability.count_answers(_records(archive, days=availability.DAYS), since_ms=since_ms)
    return _leave(archive, keys.AVAILABILITY, {"endpoints": [one.as_json() for one in found]})


def episodes() -> dict[str, object]:
    """Work out what episodes came to, where that is due; leave it in the store.

    What prompts look like that nobody gave a task is counted in the same look.
    """
    archive = _place[0].archive()
    if _place[0].keep.days == 0 or not archive.holds():
        return {}
    marks, now_ms, began = recent.marks(archive), _now_ms(), time.monotonic()
    if not recent.is_due(archive.client.get(keys.EPISODES), marks, now_ms=now_ms):
        return {}
    young = list(recent.tail(archive, most_bytes=MAX_TAIL_BYTES))  # before the files are listed
    read = recent.choose(_files(archive), days=DAYS, most_bytes=MAX_READ_BYTES, now_ms=now_ms)
    batches = chain(young, _read(read.files))
    guesses = Guesses(since_ms=read.since_ms)
    found = figures(guesses.watch(batches), since_ms=read.since_ms, now_ms=now_ms)
    span = {"since_ms": read.since_ms, "truncated": read.is_truncated}
    _leave(archive, keys.SUGGESTIONS, span | guesses.counts())
    whole = span | {"apps": found}
    took = {"took_s": round(time.monotonic() - began, 3), "marks": marks}
    return _leave(archive, keys.EPISODES, whole | took)


def tally() -> dict[str, object]:
    """Sum up what routing saved in the last days, where that is due; leave it in the store."""
    archive = _place[0].archive()
    if _place[0].keep.days == 0 or not archive.holds():
        return {}
    marks, now_ms, began = recent.marks(archive), _now_ms(), time.monotonic()
    if not recent.is_due(archive.client.hget(keys.SAVINGS, STATE_FIELD), marks, now_ms=now_ms):
        return {}
    young = list(recent.tail(archive, most_bytes=MAX_TAIL_BYTES))  # before the files are listed
    read = recent.choose(
        _files(archive), days=savings.DAYS, most_bytes=MAX_SAVINGS_BYTES, now_ms=now_ms
    )
    since_ms = read.since_ms
    found = savings.day_sums(
        chain(young, _read(read.files)),
        since_ms=since_ms,
        choices=known_choices(archive.client, since_ms=since_ms),
    )
    span = {"at_ms": now_ms, "since_ms": since_ms, "truncated": read.is_truncated}
    state = span | {"took_s": round(time.monotonic() - began, 3), "marks": marks}
    savings.keep(archive.client, found, state, since_ms=since_ms, now_ms=now_ms)
    return state


def compare() -> dict[str, object]:
    """Work out what trials and hold-outs show, where that is due, and end trials that are over.

    Where no records are kept nothing is shown; a trial ends when its time is up all the same.
    """
    archive = _place[0].archive()
    seconds, micros = archive.client.time()  # trials begin and end on the store's clock
    now_ms, began = int(seconds) * 1000 + int(micros) // 1000, time.monotonic()
    if _place[0].keep.days == 0:
        comparisons.end_by_time(archive.client, now_ms=now_ms)
        return {}
    if not archive.holds():
        return {}
    marks = recent.marks(archive)
    look = comparisons.look_at(archive.client, marks, now_ms=now_ms)
    if look is None:
        return {}
    young = list(recent.tail(archive, most_bytes=MAX_TAIL_BYTES))  # before the files are listed
    read = recent.choose(
        _files(archive), days=look.days, most_bytes=MAX_SAVINGS_BYTES, now_ms=now_ms
    )
    batches = chain(young, _read(read.files))
    found = comparisons.work_out(archive.client, look, batches, since_ms=read.since_ms)
    state = {"truncated": read.is_truncated, "marks": marks}
    state["took_s"] = round(time.monotonic() - began, 3)
    over = comparisons.keep(archive.client, look, found, **state)
    for trial in over:
        log.info("a trial ended", trial=trial.id, state=trial.state, reason=trial.reason)
    return found.state | state


def rank() -> int:
    """Name who spent most on days that closed; return of how many days and tables."""
    archive = _place[0].archive()
    return spenders.name_spenders(archive.client, archive.n_shards, now_ms=_now_ms())


def bury() -> int:
    """Let return what dead processes held of budgets; return of how many accounts and processes."""
    archive = _place[0].archive()
    now_ms = int(archive.client.time()[0]) * 1000
    return burials.bury_dead(archive.client, archive.n_shards, now_ms=now_ms).n_buried


def _records(archive: Archive, *, days: int) -> Iterator[NDArray[np.void]]:
    """Yield the archived records of the last days, the newest first, as many as are read at once.

    The rest is left out: of whom so much is said the newest says enough.
    """
    read = recent.choose(_files(archive), days=days, most_bytes=MAX_READ_BYTES, now_ms=_now_ms())
    return _read(read.files)


def _read(files: list[archive_files.ArchiveFile]) -> Iterator[NDArray[np.void]]:
    for file in files:
        _breathe()
        try:
            yield take_apart(archive_files.read(file).as_entries(), {}).records
        except Damaged as error:
            log.error("a file of the archive is damaged", file=error.path.name)


ALLOWED.update(
    {
        f"workers.jobs.{job.__name__}": (job, EVERY_S[job.__name__])
        for job in (
            *(take, thaw, prune, index, bury, rank),
            *(check, calibrate, measure, episodes, tally, compare),
        )
    }
)
"""The names lie in the store, and stay as they are; nothing is imported by them."""


def _breathe() -> None:
    """Let a long job end when the process does; meanwhile the archive goes on, and old feedback."""
    if _place[0].stop.is_set():
        raise JobsStopped
    take()
    if time.monotonic() - _place[0].thawing.looked_at >= OFTEN_S:
        thaw()


def _files(archive: Archive) -> list[archive_files.ArchiveFile]:
    directories = [archive.directory(shard) for shard in range(archive.n_shards)]
    return [file for directory in directories for file in archive_files.list_files(directory)]


def _leave(archive: Archive, key: str, value: dict[str, object]) -> dict[str, object]:
    whole = {"at_ms": _now_ms(), **value}
    archive.client.set(key, json.dumps(whole))
    return whole


def _now_ms() -> int:
    return int(time.time() * 1000)
