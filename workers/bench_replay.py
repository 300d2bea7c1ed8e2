"""How fast records that a stream retained become rows again: one process, without a commit."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import N_COLUMNS, Terms
from telemetry import frames, keys
from telemetry.events import Kind, decode
from telemetry.store import Client
from workers import fold, labels

READ_ENTRIES = 64
"""16,384 records: larger reads leave the processor's cache."""
NO_ROW = bytes(8 * N_COLUMNS)


def replay(client: Client, *, n_shards: int) -> float:
    """Return records/s from the first read of the streams to the last row."""
    n, began = 0, time.monotonic()
    for shard in range(n_shards):
        rows: dict[bytes, bytes] = {}
        said: dict[bytes, labels.Labels | bytes] = {}
        start = "-"
        while entries := client.xrange(keys.stream(shard), min=start, count=READ_ENTRIES):
            bodies = (frames.unpack(fields[b"f"]).body for _, fields in entries)
            records, bad = decode(b"".join(bodies))
            assert not bad
            _add(rows, cells.merge(_terms(records, said)))
            n += len(records)
            start = f"({entries[-1][0].decode()}"
    return n / (time.monotonic() - began)


def _terms(records: NDArray[np.void], said: dict[bytes, labels.Labels | bytes]) -> list[Terms]:
    """Return what records add; `said` holds the labels of all decisions so far."""
    heard = records[records["kind"] == Kind.FEEDBACK]
    whole = heard["token"]["nonce"].tobytes()
    nonces = [whole[start : start + 16] for start in range(0, len(whole), 16)]
    n_of = Counter(nonces)
    alone = np.array([n_of[n] == 1 and n not in said for n in nonces], dtype=bool)
    first = heard[alone]
    said.update(zip(np.array(nonces, dtype=object)[alone], labels.first_rows(first), strict=True))
    changes = []
    for i in np.flatnonzero(~alone):
        record, before = heard[i], said.get(nonces[i], {})
        if isinstance(before, bytes):
            before = labels.parse(before)
        word = labels.Said(
            int(record["revision"]), record["event"].tobytes(), int(record["value_micro"])
        )
        after = said[nonces[i]] = labels.hear(before, int(record["feedback_kind"]), word)
        old, new = labels.reward(before), labels.reward(after)
        if old != new:
            changes.append(fold.RewardChange.of(record["token"], old, new))
    outcomes = records[records["kind"] == Kind.OUTCOME]
    rewards = fold.first_reward_terms(first) + fold.reward_terms(changes)
    return fold.outcome_terms(outcomes) + rewards


def _add(rows: dict[bytes, bytes], terms: Terms) -> None:
    names = [key.tobytes() for key in terms.keys]
    before = b"".join(rows.get(name, NO_ROW) for name in names)
    after = np.frombuffer(before, dtype="<i8").reshape(-1, N_COLUMNS) + terms.values
    rows.update(zip(names, (row.tobytes() for row in after), strict=True))
