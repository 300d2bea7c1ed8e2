"""The calls of a month and what is said of them, as the router would have written it.

Eight tasks and eight endpoints; six calls in ten with one of 50,000 users, three in ten in
sessions, half with a reference, all with an answer id. Two in five are labelled, soon after the
answer: by decision id, by the answer's id or by the reference. Records are made as arrays, ten
minutes at a time; of any two runs they are the same but for their times.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from telemetry import digests, events
from telemetry.decisions import Decisions
from telemetry.events import MICRO, RECORD_SIZE, RECORD_VERSION, FeedbackKind, Flag, Kind
from telemetry.layouts import RECORD
from telemetry.tokens import LAYOUT, TOKEN_VERSION

CALLS_PER_S = 10.0
N_SHARDS = 4
STEP_MS = 600_000
"""Ten minutes: of each shard as many records as the worker folds at once when it has to hurry."""
N_TASKS = N_ENDPOINTS = 8
N_USERS = 50_000
OF_USERS, IN_SESSIONS, WITH_REFERENCE, STREAMED, LABELLED = 0.6, 0.3, 0.5, 0.4, 0.4
BY_REFERENCE = 0.5
"""Of labels on calls that have one."""
BY_ANSWER_ID = 0.3
"""Of the others, unless the answer was streamed."""
FLAGS = int(Flag.ROUTED | Flag.FINAL | Flag.USAGE_KNOWN | Flag.PRICED | Flag.TTFT_KNOWN)
TOKENS_IN, TOKENS_OUT = 40, 30
SAID_AFTER_MS = 1000
CHECKSUM_AT = RECORD.fields["checksum"][1]  # type: ignore[index]
EVENT_MS_BYTES = 6


@dataclass(slots=True)
class TrafficStep:
    """What ten minutes bring."""

    records: NDArray[np.void]  # (n,) of RECORD, in the order in which they come
    at_ms: NDArray[np.int64]  # (n,) when
    resolved: NDArray[
        np.void
    ]  # of those by reference, what is sent once it is known what they mean
    calls: NDArray[np.void]  # (n_calls,) the outcomes alone
    user_slots: NDArray[np.intp]  # (n,) user and task of calls that are in no session
    app_slots: NDArray[np.intp]  # (n,) task of calls without user and session
    n_sessions: int  # calls in sessions

    @property
    def waiting(self) -> NDArray[np.void]:
        """The feedback by reference."""
        return self.records.compress(self.records["kind"] == Kind.REFERENCE_FEEDBACK)


@dataclass(slots=True)
class Traffic:
    """Calls that come at random, one step after the other."""

    calls_per_s: float = CALLS_PER_S
    chance: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    n_calls: int = 0
    n_labels: int = 0
    _users: NDArray[np.uint64] = field(init=False)  # keyed digests, 0 for nobody

    def __post_init__(self) -> None:
        self._users = self._numbers(N_USERS + 1)
        self._users[0] = 0

    def step(self, from_ms: int) -> TrafficStep:
        """Return what comes in the ten minutes from a time on."""
        n = int(self.chance.poisson(self.calls_per_s * STEP_MS / 1000))
        calls, task, user = np.zeros(n, dtype=RECORD), self._below(N_TASKS, n), self._user(n)
        in_session = self.chance.random(n) < IN_SESSIONS
        decided = from_ms + np.sort(self._below(STEP_MS, n))
        self._fill_tokens(calls["token"], decided, task, user, n_before=self.n_calls)
        self._fill_outcomes(calls)
        last_ms = from_ms + STEP_MS - 1
        ended = np.minimum(decided + calls["latency_us"] // 1000, last_ms)
        said = self._say(calls, np.minimum(ended + SAID_AFTER_MS, last_ms))
        sealed(calls)
        self.n_calls += n
        self.n_labels += len(said[0])
        records = np.concatenate([calls, said[0]])
        at_ms = np.concatenate([ended, said[1]])
        order = np.argsort(at_ms, kind="stable")
        known = (user > 0) & ~in_session
        return TrafficStep(
            records.take(order),
            at_ms[order],
            said[2],
            calls,
            user_slots=(user * N_TASKS + task)[known],
            app_slots=task[(user == 0) & ~in_session],
            n_sessions=int(in_session.sum()),
        )

    def _fill_tokens(
        self,
        token: NDArray[np.void],
        decided: NDArray[np.int64],
        task: NDArray[np.intp],
        user: NDArray[np.intp],
        *,
        n_before: int,
    ) -> None:
        n, names = len(token), _names()
        nonces = np.frombuffer(self.chance.bytes(16 * n), dtype=np.uint8).reshape(n, 16).copy()
        counted = (n_before + np.arange(n)).astype(">u2")
        nonces[:, 14:] = counted.view(np.uint8).reshape(n, 2)
        token["layout"], token["token_version"] = LAYOUT, TOKEN_VERSION
        token["shard"], token["key_id"] = nonces[:, 0] % N_SHARDS, 1
        token["nonce"], token["decided_at_ms"] = nonces.view("V16").reshape(n), decided
        token["category"], token["release_key"] = names["task"][task], names["key"][task]
        drawn = names["endpoint"][self._below(N_ENDPOINTS, n)]
        token["drawn"] = token["executed"] = drawn
        token["strategy"], token["app"] = names["strategy"][0], names["app"][0]
        token["session"], token["user"] = self._numbers(n), self._users[user]
        token["propensity"] = self.chance.integers(1, 257, n) / 256  # counted on a bank of rows
        token["predicted"] = np.clip(self.chance.normal(0.8, 0.1, n), 0, 1)
        token["predicted_sd"] = self.chance.uniform(0.01, 0.1, n)
        token["spread"] = self.chance.uniform(0.3, 0.5, n)
        token["regime"], token["token_flags"] = 1, int(Flag.ROUTED | Flag.DRAWN_NOW)

    def _fill_outcomes(self, calls: NDArray[np.void]) -> None:
        n = len(calls)
        calls["kind"], calls["version"] = Kind.OUTCOME, RECORD_VERSION
        calls["attempt"], calls["status"] = 1, 200
        is_streamed = self.chance.random(n) < STREAMED
        calls["flags"] = FLAGS | (is_streamed * int(Flag.STREAMED))
        calls["tokens_in"] = self.chance.poisson(TOKENS_IN, n)
        calls["tokens_out"] = self.chance.poisson(TOKENS_OUT, n)
        calls["ttft_us"] = self.chance.exponential(5e4, n) + 2000
        calls["latency_us"] = calls["ttft_us"] + self.chance.exponential(3e4, n)
        tokens_in: NDArray[np.uint32] = calls["tokens_in"]
        tokens_out: NDArray[np.uint32] = calls["tokens_out"]
        calls["cost_nano"] = 1000 * tokens_in + 2000 * tokens_out
        calls["configuration"] = 1
        calls["response"] = self._digests(n)
        referring = np.flatnonzero(self.chance.random(n) < WITH_REFERENCE)
        calls["reference"][referring] = self._digests(len(referring))

    def _say(
        self, calls: NDArray[np.void], at_ms: NDArray[np.int64]
    ) -> tuple[NDArray[np.void], NDArray[np.int64], NDArray[np.void]]:
        """Return feedback, when it comes, and what is sent later of that by reference."""
        mine = np.flatnonzero(self.chance.random(len(calls)) < LABELLED)
        calls, at_ms, n = calls.take(mine), at_ms[mine], len(mine)
        said = np.zeros(n, dtype=RECORD)
        said["version"], said["feedback_kind"] = RECORD_VERSION, FeedbackKind.TEST
        said["value_micro"] = np.where(self.chance.random(n) < 0.8, MICRO, 0)
        said["received_at_ms"], said["event"] = at_ms, self._events(at_ms)
        has_reference = calls["reference"] != np.void(events.NO_DIGEST)
        by_reference = has_reference & (self.chance.random(n) < BY_REFERENCE)
        is_whole = (calls["flags"] & int(Flag.STREAMED)) == 0
        by_answer = ~by_reference & is_whole & (self.chance.random(n) < BY_ANSWER_ID)
        by_name = by_reference | by_answer
        digests = np.where(by_reference, calls["reference"], calls["response"])
        said["kind"] = np.where(by_name, Kind.REFERENCE_FEEDBACK, Kind.FEEDBACK)
        resolved = said.compress(by_name)
        resolved["kind"], meant = Kind.FEEDBACK, calls.compress(by_name)["token"]
        resolved["token"] = Decisions.of(meant).to_tokens(meant["shard"])
        said["token"] = calls["token"]
        said["reference"][by_name] = digests[by_name]
        _name_nobody(said, by_name)
        return sealed(said), at_ms, sealed(resolved)

    def _user(self, n: int) -> NDArray[np.intp]:
        who: NDArray[np.intp] = 1 + self._below(N_USERS, n)
        who[self.chance.random(n) >= OF_USERS] = 0
        return who

    def _events(self, at_ms: NDArray[np.int64]) -> NDArray[np.void]:
        out = np.frombuffer(self.chance.bytes(16 * len(at_ms)), dtype=np.uint8).reshape(-1, 16)
        out = out.copy()
        out[:, :EVENT_MS_BYTES] = at_ms.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 2:]
        return out.view("V16").reshape(len(at_ms))

    def _below(self, most: int, n: int) -> NDArray[np.intp]:
        return self.chance.integers(0, most, n)

    def _numbers(self, n: int) -> NDArray[np.uint64]:
        return np.frombuffer(self.chance.bytes(8 * n), dtype="<u8").copy()

    def _digests(self, n: int) -> NDArray[np.void]:
        return np.frombuffer(self.chance.bytes(16 * n), dtype="V16")


def sealed(records: NDArray[np.void]) -> NDArray[np.void]:
    """Give each record the checksum of its own bytes; return them."""
    raw = memoryview(records.tobytes())
    begins = range(0, len(raw), RECORD_SIZE)
    records["checksum"] = [zlib.crc32(raw[at : at + CHECKSUM_AT]) for at in begins]
    return records


def by_shard(
    records: NDArray[np.void], at_ms: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.void], NDArray[np.int64]]]:
    """Yield shards with their records, and when these come."""
    shards = records["token"]["shard"]
    for shard in range(N_SHARDS):
        mine = shards == shard
        yield shard, records.compress(mine), at_ms[mine]


def _name_nobody(said: NDArray[np.void], by_name: NDArray[np.bool_]) -> None:
    """Take the decision out of feedback that tells it by a name, and say who keeps it."""
    nobody = np.zeros(int(by_name.sum()), dtype=said["token"].dtype)
    nobody["layout"], nobody["token_version"] = LAYOUT, TOKEN_VERSION
    first = said["reference"][by_name]
    nobody["shard"] = first.view(np.uint8).reshape(len(nobody), 16)[:, 0] % N_SHARDS
    nobody["app"] = _names()["app"][0]
    said["token"][by_name] = nobody


def _names() -> dict[str, NDArray[np.uint64]]:
    """Return digests of names, by their sort."""
    sizes = {"task": N_TASKS, "key": N_TASKS, "endpoint": N_ENDPOINTS, "strategy": 1, "app": 1}
    return {
        sort: np.array([digests.digest8(sort, str(i)) for i in range(n)], dtype=np.uint64)
        for sort, n in sizes.items()
    }
