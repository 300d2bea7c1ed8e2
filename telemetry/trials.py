"""Trials and hold-outs in the store: who is compared with whom, since when, and how it ended.

A trial is written once, changed only by who read the version that it changes, and never deleted
while its verdict is shown. A hold-out is what a won trial leaves behind: the same record, in
another state, with a beginning of its own.

The field `version` of the hash rises with each change, so that who looks often reads a few bytes.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from enum import StrEnum

import msgspec
import structlog
from msgspec import Struct, structs

from telemetry import keys
from telemetry.damaged import DAMAGED, Moment
from telemetry.store import Client

log = structlog.get_logger()

VERSION = "version"
"""Field of the hash that is no trial."""
ID_LETTERS, ID_LENGTH = string.ascii_lowercase + string.digits, 12
TRIES = 5
"""So often a start is tried again while others change the hash."""
MAX_HOLDOUT = 0.03
OVERDUE_MS = 300_000
"""So long after its time is up a trial that still runs waits for the job that ends it."""


class TrialState(StrEnum):
    """Where a trial stands."""

    RUNNING = "running"  # half of the units go to the incumbent, half to the challenger
    WON = "won"  # ended; a hold-out follows it for as long as `holdout` is above 0
    ENDED = "ended"  # without a gain, by hand, by its time, money, or because a side was lost


class Trial(Struct, frozen=True, kw_only=True):
    """One trial of one release key, or of an app's whole map of roles."""

    id: str  # 12 letters and digits, drawn by who starts it
    app: str
    strategy: str
    role: str = ""
    model: str = ""  # the caller's own, as of the review key
    task: str = ""  # empty: the app's whole routed map against the incumbent's
    incumbent: str  # endpoint id of the group's first host
    challenger: str = ""  # the same; empty of an app's whole map
    release_key: int = 0  # digest under which records carry it; 0 of an app's whole map
    began_ms: Moment
    ends_ms: Moment  # when it ends at the latest
    cap_usd: float | None = None  # what the challenger's side may cost in all
    smallest_pp: float | None = None  # the smallest difference it can show, as told at its start
    state: TrialState = TrialState.RUNNING
    ended_ms: Moment = 0
    reason: str = ""  # why it ended, in a word
    holdout: float = 0.0  # share of units that goes to the incumbent from `ended_ms` on
    auto_pin: bool = False  # the incumbent has the traffic, because it ended without a gain
    value_usd: float | None = None  # what a success was worth at its start
    applied_ms: int = 0  # when its challenger had the task; it is brought there once
    version: int = 1

    @property
    def is_of_app(self) -> bool:
        """Whether it holds an app's whole map, rather than one task."""
        return not self.task

    def is_overdue(self, now_ms: int) -> bool:
        """Return whether it ought to be over, and nobody ended it: calls go by it no more."""
        return self.state is TrialState.RUNNING and now_ms > self.ends_ms + OVERDUE_MS


class TrialRefused(Exception):
    """A trial is not started beside one that runs; `beside` is that one."""

    def __init__(self, beside: Trial) -> None:
        super().__init__(f"trial {beside.id} runs")
        self.beside = beside


def new_id() -> str:
    """Return the id of a new trial."""
    return "".join(secrets.choice(ID_LETTERS) for _ in range(ID_LENGTH))


def look(client: Client) -> bytes | None:
    """Return the version of all trials together; None where there are none.

    Raises:
        redis.RedisError: the store is away.
    """
    found: bytes | None = client.hget(keys.TRIALS, VERSION)
    return found


def read_trials(client: Client) -> dict[str, Trial]:
    """Return all trials by id, the earliest first; what cannot be read is left out, and logged.

    Raises:
        redis.RedisError: the store is away.
    """
    return parse_trials(client.hgetall(keys.TRIALS))


def parse_trials(raw: dict[bytes, bytes]) -> dict[str, Trial]:
    """Return trials as they lie in the store, the earliest first; damaged ones are left out."""
    found = []
    for name, value in raw.items():
        if name == VERSION.encode():
            continue
        try:
            found.append(parse_trial(name, value))
        except DAMAGED as error:
            log.error("a trial cannot be read", trial=repr(name), error=type(error).__name__)
    return {trial.id: trial for trial in sorted(found, key=lambda t: (t.began_ms, t.id))}


def in_force(trials: Mapping[str, Trial], now_ms: int) -> dict[str, Trial]:
    """Return those that calls go by: all but what nobody ended in time."""
    return {id_: one for id_, one in trials.items() if not one.is_overdue(now_ms)}


def parse_trial(name: bytes, value: bytes) -> Trial:
    """Return a trial as it lies in the store.

    Raises:
        one of DAMAGED: it cannot be read, or lies under a name that is not its own.
    """
    trial = msgspec.json.decode(value, type=Trial)
    if trial.id.encode() != name:
        raise ValueError("a trial under a name that is not its own")
    if not 0 <= trial.release_key < 1 << 64:
        raise ValueError("no digest of a release key")
    return trial


def start(client: Client, trial: Trial) -> None:
    """Write a trial that begins, unless one runs that it would meet.

    One that runs for the same release key stands in its way, and beside one of a whole app there
    is no other of that app.

    Raises:
        TrialRefused: one does; nothing was written.
        redis.RedisError: the store is away, or others change its trials without an end.
    """
    for _ in range(TRIES):
        raw = client.hgetall(keys.TRIALS)
        beside = next((one for one in parse_trials(raw).values() if _meet(one, trial)), None)
        if beside is not None:
            raise TrialRefused(beside)
        if _write(client, trial, seen=raw.get(VERSION.encode(), b"")):
            return
    raise TimeoutError("others go on changing the store's trials; try again")


def change(client: Client, trial: Trial) -> bool:
    """Write a trial that was changed; return whether it still was of the version that it carries.

    The caller leaves `version` as it was read; what is written is of the next one.

    Raises:
        redis.RedisError: the store is away, or others change its trials without an end.
    """
    for _ in range(TRIES):
        seen = client.hget(keys.TRIALS, VERSION) or b""
        raw = client.hget(keys.TRIALS, trial.id)
        before = parse_trials({trial.id.encode(): raw}).get(trial.id) if raw else None
        if before is None or before.version != trial.version:
            return False
        if _write(client, structs.replace(trial, version=trial.version + 1), seen=seen):
            return True
    raise TimeoutError("others go on changing the store's trials; try again")


def _meet(one: Trial, other: Trial) -> bool:
    if one.state is not TrialState.RUNNING or one.app != other.app:
        return False
    return one.is_of_app or other.is_of_app or one.release_key == other.release_key


def _write(client: Client, trial: Trial, *, seen: bytes) -> bool:
    """Return whether the trials still were of version `seen`, and this one is written now."""
    script = client.register_script(_WRITE)
    arguments = [VERSION, seen, trial.id, msgspec.json.encode(trial)]
    return bool(script(keys=[keys.TRIALS], args=arguments))


_WRITE = """
if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
if type(redis.pcall('HINCRBY', KEYS[1], ARGV[1], 1)) == 'table' then
    redis.call('HSET', KEYS[1], ARGV[1], 1)  -- what lay there was no number
end
return 1
"""
"""KEYS[1] the trials; ARGV: the field of their version, the one that was seen, an id, the trial."""
