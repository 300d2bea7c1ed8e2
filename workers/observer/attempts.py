"""What was asked a short while ago, as digests: bounded by number and by age, and no text in it.

An app's calls meet only those of the same app. Whoever floods it shortens its own memory first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from msgspec import Struct

from telemetry.events import NO_DIGEST, Source
from telemetry.repeats import Repeat
from telemetry.tokens import nonce_of
from workers.observer.judgement import Judgement

MAX_ATTEMPTS = 32_768
"""Over all apps; about 1.5 kB each."""
KEEP_S = 3600.0
"""A tool may wait for a person's consent; nobody asks again after an hour."""
SWEEP_S = 60.0
MAX_UNIT_SCOPES = 1024
"""Secrets of units that are kept made, a quarter of a kB each."""
N_COMPARED = 4
"""Latest attempts at one thing that are looked at."""


class DerivedLabel(Struct, frozen=True, gc=False):
    """A label for a decision. The one of the highest revision holds."""

    decision: bytes
    source: Source
    value: float | None  # 0.0 or 1.0; None takes back what was said
    revision: int
    chain: bytes
    """Nonce of the first of several attempts at one thing, else NO_DIGEST. That first one may have
    had its label before there was a second; it is known by its nonce."""


class ToldRepeat(NamedTuple):
    """A call that asked again, or that it did not after all."""

    repeat: Repeat
    taken_back: bool = False


class FinishedCall(Struct, eq=False, gc=False):
    """One finished call, and what was said of its decision."""

    decision: bytes
    began_at_s: float
    ended_at_s: float
    answered: bool
    whole: bytes  # digest of the messages
    before_edit: bytes | None  # of those before the user's last one
    asked_for: bytes  # of the form of answer that was asked for
    sampling: bytes | None  # of how it was sampled; None where a repetition is meant to vary
    words: bytes
    calls: tuple[bytes, ...]  # keys of the tool calls in the answer
    own: Judgement | None  # what the answer shows by itself
    unit: bytes = b""  # of whom it is; empty where nobody was declared
    answer: bytes = b""  # by what it is known again; empty where there were none or several
    holds: Judgement | None = None
    chain: bytes = NO_DIGEST
    was_used: bool = False  # the conversation went on with its answer
    first_endpoint: int = 0  # digest of who its first attempt went to; 0: not known
    cost_nano: int = 0
    repeat: Repeat | None = None  # what it added to the chain of calls before it
    repeat_source: Source = Source.CALLER  # by what that was seen
    told: DerivedLabel | None = None  # of its decision, the last time

    @property
    def nonce(self) -> bytes:
        """The decision's nonce."""
        return nonce_of(self.decision)

    def say(self, judged: Judgement) -> list[DerivedLabel]:
        """Return the verdict that this evidence makes; bad stays bad, and good stays until then."""
        if self.holds is not None and (self.holds.value == 0.0 or judged.value == 1.0):
            return []
        self.holds = judged
        return self._tell(judged.source, judged.value)

    def unlink(self, source: Source) -> list[DerivedLabel]:
        """Return the verdict that holds without what was read off `source`, and without its chain.

        A chain of attempts after failures stays one.
        """
        if self.holds is not None and self.holds.source == Source.RETRIED:
            return []
        taken_back = self.holds is not None and self.holds.source == source
        self.chain = NO_DIGEST
        if taken_back:
            self.holds = self.own
        told = self.told
        if told is None or not (taken_back or any(told.chain)):
            return []
        if self.holds is None:
            return self._tell(source, None)
        return self._tell(self.holds.source, self.holds.value)

    def again(self, attempt: FinishedCall, source: Source) -> list[ToldRepeat]:
        """Return what an attempt adds that asks the same again, to the chain that this one is in.

        That is the later one's cost, and the time from the end of this one to the end of that;
        nothing, where it was told already.
        """
        first, first_endpoint = self.decision, self.first_endpoint
        if self.repeat is not None:
            first, first_endpoint = self.repeat.first, self.repeat.first_endpoint
        if not (first_endpoint and attempt.first_endpoint) or attempt.repeat is not None:
            return []
        seconds = attempt.ended_at_s - self.ended_at_s
        attempt.repeat_source = source
        attempt.repeat = Repeat(
            first, first_endpoint, attempt.first_endpoint, attempt.cost_nano, seconds
        )
        return [ToldRepeat(attempt.repeat)]

    def begins_anew(self, source: Source) -> list[ToldRepeat]:
        """Return what takes back that this one asked again, where that was read off `source`."""
        if self.repeat is None or self.repeat_source is not source:
            return []
        told, self.repeat = ToldRepeat(self.repeat, taken_back=True), None
        return [told]

    def _tell(self, source: Source, value: float | None) -> list[DerivedLabel]:
        revision = self.told.revision + 1 if self.told else 0
        self.told = DerivedLabel(self.decision, source, value, revision, self.chain)
        return [self.told]


class Attempts(Struct, eq=False, gc=False):
    """Attempts at one thing, in the order in which they ended."""

    nonces: list[bytes]
    n_again: int = 0
    is_closed: bool = False  # no person asks like this: nothing is read off it any more


@dataclass(slots=True)
class Recent:
    """The recent attempts of one app."""

    attempts: OrderedDict[bytes, FinishedCall] = field(default_factory=OrderedDict)
    same: dict[bytes, Attempts] = field(default_factory=dict)  # by digest of all messages
    edited: dict[bytes, Attempts] = field(default_factory=dict)  # of those before the last
    calls: dict[bytes, bytes | None] = field(default_factory=dict)  # None: of several attempts
    last: dict[bytes, bytes] = field(default_factory=dict)  # of each unit
    repeats: list[ToldRepeat] = field(default_factory=list)  # the memory's

    def add(self, attempt: FinishedCall) -> None:
        """Keep an attempt."""
        nonce = attempt.nonce
        self.attempts[nonce] = attempt
        for lines, key in ((self.same, attempt.whole), (self.edited, attempt.before_edit)):
            line = lines.get(key) if key is not None else None
            if line is not None:
                line.nonces.append(nonce)
            elif key is not None:
                lines[key] = Attempts([nonce])
        for key in attempt.calls:
            self.calls[key] = None if key in self.calls else nonce
        if attempt.unit:
            self.last[attempt.unit] = nonce

    def gave_once(self, asked: bytes | None, answer: bytes) -> bool:
        """Return whether these messages had this answer, and but once.

        What was given several times begins several conversations.
        """
        line = self.same.get(asked) if asked is not None else None
        if line is None or len(line.nonces) > N_COMPARED:
            return False
        return [a.answer for a in self.latest(line)].count(answer) == 1

    def latest(self, line: Attempts) -> list[FinishedCall]:
        """Return the latest attempts of a line, last one first."""
        return [self.attempts[nonce] for nonce in line.nonces[: -N_COMPARED - 1 : -1]]

    def drop_first(self) -> None:
        """Forget the attempt that was kept longest, and all that leads to it."""
        nonce, attempt = self.attempts.popitem(last=False)
        for lines, key in ((self.same, attempt.whole), (self.edited, attempt.before_edit)):
            line = lines.get(key) if key is not None else None
            if key is not None and line is not None:
                line.nonces.remove(nonce)
                if not line.nonces:
                    del lines[key]
        for key in attempt.calls:
            self.calls.pop(key, None)
        if self.last.get(attempt.unit) == nonce:
            del self.last[attempt.unit]


class Memory:
    """What `derive` remembers from call to call; one per process, never stored."""

    def __init__(
        self, salt: bytes, *, max_attempts: int = MAX_ATTEMPTS, keep_s: float = KEEP_S
    ) -> None:
        """Start empty. Args: salt: 16 to 64 secret random bytes, with which all is hashed."""
        self._repeats: list[ToldRepeat] = []  # what `derive` found of chains, until it is taken
        self._salt = salt
        self._max_attempts = max_attempts
        self._keep_s = keep_s
        self._apps: dict[bytes, Recent] = {}
        self._unit_scopes: dict[tuple[bytes, bytes], bytes] = {}
        self._app_scopes: dict[bytes, bytes] = {}  # as many as the configuration has apps
        self._n_attempts = 0
        self._swept_at_s = float("-inf")

    def __len__(self) -> int:
        return self._n_attempts

    def scope(self, *parts: bytes) -> bytes:
        """Return the secret under which an app's, or a unit's, digests are made."""
        told = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return blake2b(told, key=self._salt, digest_size=32).digest()

    def unit_scope(self, app: bytes, unit: bytes) -> bytes:
        """Return the secret of a unit: most calls are of one that was met a moment ago."""
        found = self._unit_scopes.get((app, unit))
        if found is None:
            if len(self._unit_scopes) >= MAX_UNIT_SCOPES:
                self._unit_scopes.clear()
            found = self._unit_scopes[app, unit] = self.scope(app, unit)
        return found

    def app_scope(self, app: bytes) -> bytes:
        """Return the secret of an app alone."""
        found = self._app_scopes.get(app)
        if found is None:
            found = self._app_scopes[app] = self.scope(app)
        return found

    def of(self, app: bytes) -> Recent:
        """Return what is remembered of an app."""
        found = self._apps.get(app)
        if found is None:
            found = self._apps[app] = Recent(repeats=self._repeats)
        return found

    def keep(self, app: bytes, attempt: FinishedCall) -> None:
        """Remember an attempt; what is too old, or too much, goes."""
        self._sweep(attempt.ended_at_s)
        self.of(app).add(attempt)
        self._n_attempts += 1
        while self._n_attempts > self._max_attempts:
            largest = max(self._apps.values(), key=lambda recent: len(recent.attempts))
            largest.drop_first()
            self._n_attempts -= 1

    def take_repeats(self) -> list[ToldRepeat]:
        """Return what was found of chains of calls since the last time."""
        found = self._repeats[:]
        self._repeats.clear()
        return found

    def _sweep(self, now_s: float) -> None:
        if now_s - self._swept_at_s < SWEEP_S:
            return
        self._swept_at_s = now_s
        for app, recent in list(self._apps.items()):
            while recent.attempts:
                first = next(iter(recent.attempts.values()))
                if now_s - first.ended_at_s <= self._keep_s:
                    break
                recent.drop_first()
                self._n_attempts -= 1
            if not recent.attempts:
                del self._apps[app]
