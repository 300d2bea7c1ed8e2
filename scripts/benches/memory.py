"""How much of the store's memory each kind of thing takes: `scripts/bench memory`.

Frames as the writer sends them and commits of the real learner, in a private server. Bytes are the
growth of `used_memory`: names, expiry and the allocator's rounding are in them. Conversations, and
ids of responses, are those of four spans, the first of which begins without knowing how many there
will be. Last, what a unit and such an id take in the router that knows them, without that rounding
(17 bytes).
"""

from __future__ import annotations

import secrets
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from bandit.steps import Step
from router.decision.draws import MAX_UNITS, Draws
from router.decision.shared_draws import STORED, StoredDraw
from router.decision.stored_ids import MAX_KNOWN, StoredIds
from router.decision.units import Unit
from router.dialects.stored import StoredId, StoredKind
from telemetry import event_ids, events, frames, keys, stored_ids
from telemetry.conversations import KEPT_S, SPAN_S, note
from telemetry.embedded import PrivateServer
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.store import Address, Client, connect
from telemetry.streams import read_streams
from telemetry.tokens import Token
from workers.folding.lease import Lease
from workers.folding.shard import Shard

N_DECISIONS = 100_000
N_CATEGORIES, N_ENDPOINTS = 200, 40
ROWS_OF_A_CELL = 3
"""Of a call that succeeded: usage, latency, reliability."""
N_SPANS = 4
AT_ONCE = 1000
"""Scripts of a pipeline: each is two kilobytes of text."""
A_VERSION = 2**31
"""Of posteriors: four bytes, as many as a store's first years need."""


def run_bench() -> dict[str, float]:
    """Return bytes for each thing."""
    cells = [_outcome(i + 1, cell=i) for i in range(N_CATEGORIES * N_ENDPOINTS)]
    nonces = range(1, N_DECISIONS + 1)
    alone = [_outcome(nonce) for nonce in nonces]
    told = [_outcome(nonce, refers=True) for nonce in nonces]
    judged = [_feedback(nonce) for nonce in nonces]
    found = {
        "record_in_full_frames": _growth(lambda c: _send(c, alone, frames.MAX_RECORDS), len(alone)),
        "record_in_frames_of_one": _growth(lambda c: _send(c, alone, 1), len(alone)),
        "row": _growth(lambda c: _fold(c, cells), len(cells) * ROWS_OF_A_CELL),
        "reference": _growth(lambda c: _fold(c, told), len(told)),
        "label": _growth(lambda c: _fold(c, judged), len(judged)),
        "draw": _growth(_draw, N_DECISIONS),
        "conversation": _growth(_note, N_SPANS * N_DECISIONS),
        "stored_id": _growth(_note_ids, N_SPANS * N_DECISIONS),
        "unit_in_router": _known(),
        "stored_id_in_router": _known_ids(),
    }
    return {name: round(size, 1) for name, size in found.items()}


def _growth(fill: Callable[[Client], None], n: int) -> float:
    """Return by how much one of `n` things makes a fresh server's memory grow."""
    with (
        tempfile.TemporaryDirectory(prefix="pm-", dir="/tmp") as directory,
        PrivateServer(Path(directory)) as server,
    ):
        address = Address(f"unix://{server.socket_path}")
        client = connect(address)
        _fold(client, [_outcome(N_DECISIONS + 1)])  # what scripts take, once for all
        before = _used(address)
        fill(client)
        client.close()
        return (_used(address) - before) / n


def _used(address: Address) -> int:
    client = connect(address)
    used = int(client.info("memory")["used_memory"])
    client.close()
    return used


def _token(nonce: int, cell: int = 0) -> bytes:
    body = secrets.token_bytes(12) + nonce.to_bytes(4, "big")
    category, endpoint = 1 + cell // N_ENDPOINTS, 1 + cell % N_ENDPOINTS
    token = Token(1, 0, 0, body, _now_ms(), category, 2, endpoint, 4, 5, 6, 7, 0.5, 0.5, 0.1)
    return token.pack()


def _outcome(nonce: int, *, cell: int = 0, refers: bool = False) -> bytes:
    response = secrets.token_bytes(16) if refers else events.NO_DIGEST
    return events.outcome(
        _token(nonce, cell),
        result=Result.OK,
        attempt=1,
        status=200,
        flags=int(Flag.FINAL | Flag.USAGE_KNOWN),
        latency_s=0.5,
        tokens_out=20,
        response=response,
    )


def _feedback(nonce: int) -> bytes:
    event = event_ids.new_event_id(_now_ms())
    return events.feedback(
        _token(nonce), kind=FeedbackKind.JUDGE, value=0.5, revision=0, event=event
    )


def _fold(client: Client, records: list[bytes]) -> None:
    _send(client, records, frames.MAX_RECORDS)
    lease, shard = Lease(client, 0), Shard(client, 0)
    lease.take()
    shard.load()
    while entries := read_streams(client, {0: shard.mark}, count=4, block_ms=1).get(0):
        lease.keep()
        shard.fold(entries, token=lease.token)
    lease.release()
    client.xtrim(keys.stream(0), maxlen=0, approximate=False)  # `delete` frees it a while later


def _draw(client: Client) -> None:
    pipeline = client.pipeline(transaction=False)
    for _ in range(N_DECISIONS):
        pipeline.set(keys.draw(secrets.token_hex(16)), bytes(STORED.size), px=86_400_000)
    pipeline.execute()


def _note(client: Client) -> None:
    pipeline = client.pipeline(transaction=False)
    for i in range(N_SPANS * N_DECISIONS):
        given = StoredDraw(secrets.randbits(64), 0.1, _now_ms(), A_VERSION + i, Step.STAY)
        value, ttl_s = given.pack_conversation(), KEPT_S + i // N_DECISIONS * SPAN_S
        pipeline.execute_command(*note(secrets.token_bytes(16), value, ttl_ms=ttl_s * 1000))
        if len(pipeline) == AT_ONCE:
            pipeline.execute()
    pipeline.execute()


def _note_ids(client: Client) -> None:
    pipeline = client.pipeline(transaction=False)
    for i in range(N_SPANS * N_DECISIONS):
        key = stored_ids.key_of("app", "responses", f"resp_{i:048x}")
        ttl_s = stored_ids.KEPT_S + i // N_DECISIONS * stored_ids.SPAN_S
        maker = (i % N_ENDPOINTS).to_bytes(stored_ids.MAKER_BYTES)
        pipeline.execute_command(*stored_ids.note(key, maker, ttl_ms=ttl_s * 1000))
        if len(pipeline) == AT_ONCE:
            pipeline.execute()
    pipeline.execute()


def _now_ms() -> int:
    return int(time.time() * 1000)


def _known() -> float:
    """Return what each unit takes in a router that knows as many as it may."""
    draws, now = Draws(Address("unix:///nowhere")), time.time()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for i in range(MAX_UNITS):
        key = secrets.token_bytes(16)
        given = StoredDraw(secrets.randbits(64), 0.5, int(now * 1000) + i, i, Step.SAMPLE)
        draws.keep(key, given, Unit(key, True, 0.0), now=now)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / draws.n_known


def _known_ids() -> float:
    """Return what each stored id takes in a router that knows as many as it may."""
    ids = StoredIds(Address("unix:///nowhere"), has_room=lambda: False)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for i in range(MAX_KNOWN):
        stored = StoredId(StoredKind.RESPONSE, f"resp_{i:048x}")
        ids.note("app", stored, secrets.randbits(64))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / ids.n_known


def _send(client: Client, records: list[bytes], n_records: int) -> None:
    pipeline = client.pipeline(transaction=False)
    for start in range(0, len(records), n_records):
        part = records[start : start + n_records]
        frame = frames.Frame(bytes(16), 0, start, b"".join(part))
        pipeline.xadd(keys.stream(0), {"f": frames.pack(frame)})
    pipeline.execute()
