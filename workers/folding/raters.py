"""Which decisions of a rater count: of a cell and day, the three of the lowest ranks. Pure.

In an app that says so, a decision is that of its user; those without a user are of one rater, else
leaving the user out would be a way round. A decision is *labelled* once any but a derived word was
said of it, retractions included. That set only grows, and a rank is fixed when the decision is
made: so the order in which words come shows nowhere, and who was displaced never counts again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from telemetry.events import FeedbackKind, Flag
from telemetry.layouts import TOKEN
from telemetry.tokens import TOKEN_SIZE, decided_at_ms, nonce_of, under_key
from telemetry.young import span_of
from workers.folding.hearing import ENTRIES, pieces

MOST_COUNTED = 3
"""Of a rater in a cell and day: someone who rates all day says as much as three do."""
RANK_BYTES = 8
_DAY_MS = 86_400_000
Seat = tuple[int, bytes]
"""Day of the decisions, and digest of rater and cell."""


def is_rated(tokens: NDArray[np.void]) -> NDArray[np.bool_]:
    """Return which decisions are of an app whose raters are told apart."""
    return np.asarray((tokens["token_flags"] & Flag.RATED) > 0)


def seats_of(tokens: NDArray[np.void]) -> list[Seat]:
    """Return where each decision counts: rater, cell and day."""
    names = ("app", "user", "category", "executed")
    parts = pieces(np.stack([tokens[name] for name in names], axis=1).astype("<u8"))
    days = (tokens["decided_at_ms"] // _DAY_MS).tolist()
    return [(day, blake2b(p, digest_size=16).digest()) for day, p in zip(days, parts, strict=True)]


def tokens_in(row: bytes | None) -> list[bytes]:
    """Return the packed tokens of the decisions that count, as a seat's row holds them."""
    return [(row or b"")[i : i + TOKEN_SIZE] for i in range(0, len(row or b""), TOKEN_SIZE)]


def sitting_beside(
    rows: Mapping[Seat, bytes | None], known: Collection[tuple[int, bytes]]
) -> dict[tuple[int, bytes], bytes]:
    """Return the packed tokens of decisions that count and are not in `known`, by span and nonce.

    Whoever is labelled there may displace them; then what was said of them has to be known.
    """
    tokens = [token for row in rows.values() for token in tokens_in(row)]
    found = {(span_of(decided_at_ms(token)), nonce_of(token)): token for token in tokens}
    return {decision: token for decision, token in found.items() if decision not in known}


@dataclass(frozen=True, slots=True)
class Seating:
    """Who counts, before a batch and after it."""

    before: NDArray[np.bool_]  # (n_decisions,)
    after: NDArray[np.bool_]
    rows: dict[Seat, bytes] = field(default_factory=dict)  # that changed
    n_beyond: int = 0  # decisions by which more were labelled than count
    n_unnamed: int = 0  # newly labelled ones that name no user


def seat(
    tokens: NDArray[np.void],
    before: Sequence[bytes | None],
    after: Sequence[bytes],
    rows: Mapping[Seat, bytes | None],
    *,
    key: bytes,
) -> Seating:
    """Return which decisions count. Those that are not rated do, always.

    Args:
        tokens: (n_decisions,) of TOKEN, all that `rows` hold among them.
        before, after: their labels rows.
        rows: of each seat, the tokens of those that count there, lowest rank first.
        key: of the ranks, at most 64 bytes; who does not have it foresees none.
    """
    rated = np.flatnonzero(is_rated(tokens))
    of_seat: dict[Seat, list[int]] = {}
    for place, where in zip(rated.tolist(), seats_of(tokens.take(rated)), strict=True):
        of_seat.setdefault(where, []).append(place)
    counted_before, counted_after = np.ones((2, len(tokens)), dtype=bool)
    changed: dict[Seat, bytes] = {}
    n_beyond = n_unnamed = 0
    nonces = pieces(tokens["nonce"])
    for where, places in of_seat.items():
        sitting = {nonce_of(token): token for token in tokens_in(rows.get(where))}
        fresh = [p for p in places if is_labelled(after[p]) and not is_labelled(before[p])]
        labelled = sitting | {nonces[p]: under_key(tokens[p].tobytes(), 0) for p in fresh}
        lowest = sorted(labelled, key=lambda nonce: (rank(nonce, key), nonce))[:MOST_COUNTED]
        counted_before[places] = [nonces[p] in sitting for p in places]
        counted_after[places] = [nonces[p] in lowest for p in places]
        n_beyond += max(len(labelled) - MOST_COUNTED, 0)
        n_unnamed += sum(not tokens[p]["user"] for p in fresh)
        if lowest != list(sitting):
            changed[where] = b"".join(labelled[nonce] for nonce in lowest)
    return Seating(counted_before, counted_after, changed, n_beyond, n_unnamed)


def rank(nonce: bytes, key: bytes) -> bytes:
    """Return by what the decisions at a seat are ordered: the same in every process and life."""
    return blake2b(nonce, key=key, digest_size=RANK_BYTES).digest()


def is_labelled(row: bytes | None) -> bool:
    """Return whether a labels row holds any but a derived word, retracted ones included."""
    return any(kind != FeedbackKind.DERIVED for kind in (row or b"")[:: ENTRIES.itemsize])


def tokens_of(packed: Iterable[bytes]) -> NDArray[np.void]:
    """Return packed tokens as an array of TOKEN."""
    return np.frombuffer(b"".join(packed), dtype=TOKEN)
