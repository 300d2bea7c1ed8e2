"""The sidecar's books, read from the store: attempts by the endpoint that they were made at."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

from scripts.proofs.sidecar import RunningSidecar
from scripts.proofs.verdicts import BookedAttempt
from telemetry import decoding, frames, keys
from telemetry.events import Flag, Kind, Result
from telemetry.store import connect

ARRIVE_S = 10.0
"""Outcomes leave in batches, a moment after their calls."""


def booked_attempts(
    sidecar: RunningSidecar, primaries: Sequence[str], *, n_expected: int
) -> dict[str, list[BookedAttempt]]:
    """Return what is booked of calls whose incumbent is one of these endpoints, by incumbent.

    Args:
        n_expected: attempts that the provider counted; they are waited for.
    """
    catalog = sidecar.configuration.catalog
    by_digest = {e.digest: e.id for e in catalog.endpoints}
    wanted = set(primaries)
    until = time.monotonic() + ARRIVE_S
    while True:
        booked: defaultdict[str, list[BookedAttempt]] = defaultdict(list)
        n = 0
        for drawn, executed, attempt in outcomes(sidecar):
            primary = by_digest.get(drawn, "")
            if primary in wanted:
                at_primary = by_digest.get(executed) == primary
                booked[primary].append(BookedAttempt(at_primary, *attempt))
                n += 1
        if n >= n_expected or time.monotonic() > until:
            return booked
        time.sleep(0.1)


def outcomes(
    sidecar: RunningSidecar,
) -> list[tuple[int, int, tuple[str, bool, int, int]]]:
    """Return whom each attempt was drawn for and made at, and result, finality, tokens, cost.

    What is estimated counts as 0: providers' own books have no estimates.
    """
    client = connect(sidecar.address)
    rows: list[tuple[int, int, tuple[str, bool, int, int]]] = []
    for shard in range(sidecar.configuration.store.shards):
        for _, fields in client.xrange(keys.stream(shard)):
            records, _ = decoding.decode(frames.unpack(fields[b"f"]).body)
            for record in records[records["kind"] == Kind.OUTCOME]:
                token = record["token"]
                told = not record["flags"] & Flag.ESTIMATED
                how = (
                    Result(int(record["result"])).name,
                    bool(record["flags"] & Flag.FINAL),
                    (int(record["tokens_in"]) + int(record["tokens_out"])) * told,
                    int(record["cost_nano"]) * told,
                )
                rows.append((int(token["drawn"]), int(token["executed"]), how))
    client.close()
    return rows
