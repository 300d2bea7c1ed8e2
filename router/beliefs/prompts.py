"""Versions of prompts in the store: noted by calls, settled by the keeper's thread.

What becomes of a task is changed by whoever comes first: a change names what it was made from, and
of two processes that hear of a version at the same time one opens the epoch. With the store away
nothing is lost: a version is noted again by the next call that names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache, partial

import msgspec
import numpy as np
import structlog

from bandit import epochs
from bandit.cells import Terms
from bandit.families import Family, Q
from bandit.teaching import key_of, read_calls
from router.beliefs.alarms import MAX_ALARMS
from router.beliefs.beliefs import Beliefs
from router.beliefs.levels import kinds_of
from router.beliefs.names import Names
from router.beliefs.versions import TaskVersions, named
from router.config.compiled import category_digest
from router.config.entries import Learn
from telemetry.digests import digest8
from telemetry.scripts import change_prompts
from telemetry.store import Client

log = structlog.get_logger()

MAX_NOTED = 100
"""Versions that wait for the keeper's next look."""
PROMPT = "prompt"
"""What is announced of a new epoch, where an alarm has its kind."""


@lru_cache(maxsize=1024)
def prompt_digest(name: str) -> int:
    """Return by which digest records tell a version."""
    return digest8("prompt", name)


class PromptVersions:
    """A copy of what is known of all tasks; calls note, a thread of the keeper's settles."""

    def __init__(self) -> None:
        self.known: dict[str, TaskVersions] = {}  # by task
        self._raw: dict[bytes, bytes] = {}
        self._noted: dict[tuple[str, str, str], None] = {}  # task, app, version
        self._settled: frozenset[tuple[str, str, str]] = frozenset()

    @property
    def opened(self) -> Mapping[str, int]:
        """The epoch of each task that is past its first."""
        return {task: found.epoch for task, found in self.known.items() if found.epoch}

    def note(self, task: str, app: str, prompt: str | None) -> None:
        """Take note of the version that a call names; most often it is one that is known."""
        if prompt is None or (task, app, prompt) in self._settled:
            return
        if len(self._noted) < MAX_NOTED:
            self._noted[task, app, prompt] = None

    def take(self, raw: dict[bytes, bytes]) -> bool:
        """Take what was looked at for the copy; return whether a task is in another epoch."""
        if raw == self._raw:
            return False
        before, self._raw = self.opened, raw
        parsed = [_parse(name, value) for name, value in raw.items()]
        self.known = {found.task: found for found in parsed if found is not None}
        self._settle_known()
        return self.opened != before

    def settle(
        self, client: Client, beliefs: Beliefs, rows: Callable[[], Terms], names: Names, now_ms: int
    ) -> bool:
        """Write what the noted versions change; return whether a task is in another epoch.

        Of a task that another process changed meanwhile they wait for the next look.

        Args:
            rows: reads all rows.
            names: is told the versions.

        Raises:
            redis.RedisError: the store is away; nothing was written, or the next look shows it.
        """
        if not self._noted:
            return False
        by_task: dict[str, list[tuple[str, str]]] = {}
        for task, app, prompt in list(self._noted):
            by_task.setdefault(task, []).append((app, prompt))
        is_new = False
        for task, said in by_task.items():
            before = self.known.get(task, TaskVersions(task))
            after = _heard(before, said, beliefs, now_ms)
            if after.epoch != before.epoch:
                after = _opened(before, after, beliefs, rows(), now_ms)
            if after != before and not self._write(client, before, after):
                continue
            for app, prompt in said:
                self._noted.pop((task, app, prompt), None)
            for name in _new_names(before, after):
                names.add(prompt_digest(name), name)
            is_new |= after.epoch != before.epoch
        self._settle_known()
        return is_new

    def _write(self, client: Client, before: TaskVersions, after: TaskVersions) -> bool:
        field, told = _field(after.task), []
        if after.epoch != before.epoch:
            told = [{"kind": PROMPT, **_shown(after)}]
        value = msgspec.json.encode(after)
        if not change_prompts(
            client,
            field,
            seen=self._raw.get(field, b""),
            value=value,
            alarms=[msgspec.json.encode(one) for one in told],
            keep=MAX_ALARMS,
        ):
            return False
        self._raw = {**self._raw, field: value}
        self.known = {**self.known, after.task: after}
        for one in told:
            log.warning("a task has a new prompt", **one)
        return True

    def _settle_known(self) -> None:
        self._settled = frozenset(
            (found.task, app, one.name)
            for found in self.known.values()
            for app, own in found.known.items()
            for one in own
            if found.is_settled(app, one.name)
        )


def _heard(
    found: TaskVersions, said: list[tuple[str, str]], beliefs: Beliefs, now_ms: int
) -> TaskVersions:
    for app, prompt in said:
        share = partial(share_of_calls, beliefs, app, found.task)
        found = named(found, app, prompt, share, now_ms=now_ms)
    return found


def share_of_calls(beliefs: Beliefs, app: str, task: str) -> float:
    """Return which share of a task's calls an app sends, of those that are counted; 0 of none.

    They are counted over all time, of the apps that the configuration has.
    """
    apps = beliefs.configuration.apps
    if app not in apps:
        return 0.0
    kinds = [category_digest(task, *kind) for kind in kinds_of(beliefs.configuration)]
    booked = np.array(kinds, dtype=np.uint64)
    under = [key_of(np.array([one.digest], dtype=np.uint64), booked) for one in apps.values()]
    calls = read_calls(beliefs.teaching, np.concatenate(under)).reshape(len(apps), -1).sum(axis=1)
    total = float(calls.sum())
    return float(calls[list(apps).index(app)]) / total if total > 0 else 0.0


def _opened(
    before: TaskVersions, after: TaskVersions, beliefs: Beliefs, rows: Terms, now_ms: int
) -> TaskVersions:
    """Return what is known of a task whose epoch began, with what labels counted for until then.

    Labels may lie in later epochs than the store knows of, where it lost that: then this one is
    after those.
    """
    task = after.task
    was = max(before.epoch, beliefs.epochs.get(task, 0))
    epoch = min(was + 1, epochs.LAST)
    app = beliefs.configuration.apps[after.app]
    learn = Learn.OWN if app.entry.learn is Learn.OWN else Learn.SHARE
    booked = np.array([category_digest(task, after.app, learn)], dtype=np.uint64)
    regimes = [one.regimes for one in beliefs.known]
    counted = [
        epochs.read_labels(
            epochs.parted(rows, booked, np.array([number])),
            Family.QUALITY,
            regimes,
            categories=booked,
            endpoints=beliefs.configuration.catalog.digests,
            now_ms=now_ms,
        )[0, :, Q.N].tolist()
        for number in (was, epoch)
    ]
    observations = {
        endpoint.id: (round(n, 1), round(m, 1))
        for endpoint, n, m in zip(beliefs.configuration.catalog.endpoints, *counted, strict=True)
        if n > 0
    }
    return replace(after, epoch=epoch, observations=observations)


def _new_names(before: TaskVersions, after: TaskVersions) -> set[str]:
    names = [{one.name for own in found.known.values() for one in own} for found in (after, before)]
    return names[0] - names[1]


def _shown(found: TaskVersions) -> dict[str, object]:
    """Return what is told of an epoch that began."""
    hidden = ("known", "waiting")
    return {name: value for name, value in asdict(found).items() if name not in hidden}


def prompt_rows(known: Mapping[str, TaskVersions]) -> list[dict[str, object]]:
    """Return the last change of each task whose prompt changed, the newest first."""
    changed = [found for found in known.values() if found.epoch]
    return [_shown(found) for found in sorted(changed, key=lambda one: -one.at_ms)]


def _field(task: str) -> bytes:
    """Return under which name a task's versions are kept."""
    return b"%016x" % category_digest(task, "", Learn.SHARE)


def _parse(name: bytes, raw: bytes) -> TaskVersions | None:
    """Return what is kept of a task; None, and a line in the log, where it cannot be read."""
    try:
        found = msgspec.json.decode(raw, type=TaskVersions)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.error(
            "versions of a prompt cannot be read",
            name=name.decode("latin-1"),
            error=type(error).__name__,
        )
        return None
    if _field(found.task) != name:
        log.error("versions of a prompt under another's name", task=found.task)
        return None
    return found
