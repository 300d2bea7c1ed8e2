"""The sidecar's books of a client's calls, beside what its provider saw."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scripts.kits.agent_provider import ProviderCall
from scripts.proofs.attempts import ARRIVE_S, outcomes
from scripts.proofs.sidecar import RunningSidecar
from telemetry.events import Result


@dataclass(slots=True)
class HostBook:
    """Attempts at one host: as booked, or as the host itself counts."""

    n_answered: int = 0
    n_failed: int = 0
    n_tokens: int = 0
    cost_nano: int = 0


def booked(sidecar: RunningSidecar, *, n_expected: int) -> dict[str, HostBook]:
    """Return what is booked, by endpoint; `n_expected` attempts are waited for."""
    by_digest = {e.digest: e.id for e in sidecar.configuration.catalog.endpoints}
    until = time.monotonic() + ARRIVE_S
    while True:
        rows = outcomes(sidecar)
        if len(rows) >= n_expected or time.monotonic() > until:
            break
        time.sleep(0.1)
    books = {name: HostBook() for name in by_digest.values()}
    for _, executed, (result, _, n_tokens, cost_nano) in rows:
        book = books[by_digest[executed]]
        if result == Result.OK.name:
            book.n_answered += 1
        else:
            book.n_failed += 1
        book.n_tokens += n_tokens
        book.cost_nano += cost_nano
    return books


def seen(
    calls: Sequence[ProviderCall], prices: Mapping[str, tuple[int, int]]
) -> dict[str, HostBook]:
    """Return the same as the hosts count.

    Args:
        prices: of each host: USD a million tokens in and out.
    """
    books = {name: HostBook() for name in prices}
    for call in calls:
        book, (price_in, price_out) = books[call.host], prices[call.host]
        if call.answer is None:
            book.n_failed += 1
            continue
        book.n_answered += 1
        book.n_tokens += call.n_tokens
        nano = call.answer.prompt_tokens * price_in + call.answer.output_tokens * price_out
        book.cost_nano += nano * 1000
    return books
