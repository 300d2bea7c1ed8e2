"""How fast records that a stream retained become rows again: one process, without a commit."""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from bandit import cells
from bandit.cells import N_COLUMNS, Terms
from telemetry import frames, keys
from telemetry.events import Kind, decode
from telemetry.store import Client
from workers import fold, hearing

READ_ENTRIES = 64
"""16,384 records: larger reads leave the processor's cache."""
NO_ROW = bytes(8 * N_COLUMNS)


def replay(client: Client, *, n_shards: int) -> float:
    """Return records/s from the first read of the streams to the last row."""
    n, began = 0, time.monotonic()
    for shard in range(n_shards):
        rows: dict[bytes, bytes] = {}
        said: dict[bytes, bytes] = {}
        start = "-"
        while entries := client.xrange(keys.stream(shard), min=start, count=READ_ENTRIES):
            bodies = (frames.unpack(fields[b"f"]).body for _, fields in entries)
            records, bad = decode(b"".join(bodies))
            assert not bad
            _add(rows, cells.merge(_terms(records, said)))
            n += len(records)
            start = f"({entries[-1][0].decode()}"
    return n / (time.monotonic() - began)


def _terms(records: NDArray[np.void], said: dict[bytes, bytes]) -> list[Terms]:
    """Return what records add; `said` holds the labels of all decisions so far."""
    feedback = records.compress(records["kind"] == Kind.FEEDBACK)
    whole = feedback["token"]["nonce"].tobytes()
    nonces = [whole[start : start + 16] for start in range(0, len(whole), 16)]
    slot_of = {nonce: slot for slot, nonce in enumerate(dict.fromkeys(nonces))}
    slots = np.array([slot_of[nonce] for nonce in nonces], dtype=np.intp)
    heard = hearing.hear([said.get(nonce) for nonce in slot_of], slots, feedback)
    said.update(zip(slot_of, heard.rows, strict=True))
    first = np.empty(len(slot_of), dtype=np.intp)
    first[slots[::-1]] = np.arange(len(feedback))[::-1]
    rewards = fold.label_terms(feedback.take(first)["token"], heard.before, heard.after)
    outcomes = records.compress(records["kind"] == Kind.OUTCOME)
    return fold.outcome_terms(outcomes) + rewards


def _add(rows: dict[bytes, bytes], terms: Terms) -> None:
    names = [key.tobytes() for key in terms.keys]
    before = b"".join(rows.get(name, NO_ROW) for name in names)
    after = np.frombuffer(before, dtype="<i8").reshape(-1, N_COLUMNS) + terms.values
    rows.update(zip(names, (row.tobytes() for row in after), strict=True))
