"""The ledger's answer: rows with names, what they sum up to, and how much of it is uncertain.

A cost that is not known is never 0: where no price was known the figure is null, and where one was
missing for some attempts it says that there is more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from router.config.compiled import Configuration
from router.errors import RequestRejected
from router.report import ledger_names
from router.report.ledger_names import LedgerNames
from router.report.ledger_wish import LedgerWish, iso, iso_day
from router.report.savings import savings_section
from telemetry.ledger_questions import (
    TIMES,
    Dimension,
    LedgerQuestion,
    UnknownTogether,
    key_field,
    span_name,
)
from telemetry.ledger_reading import LedgerSums, TooManyGroups, read_ledger
from telemetry.ledger_rows import N_LEDGER_COLUMNS, LedgerColumn, LedgerRows
from telemetry.numbers import brief
from telemetry.store import Client

NANO = 1e9
END_MS = 1 << 42
"""Epoch milliseconds, of 2109: behind all that is asked about."""
OTHERS, UNNAMED = "others", "unnamed"
"""In place of a user or tag: those without rows of their own, and calls that name none."""
C = LedgerColumn

Labels = tuple[str | None, ...]


class LedgerRow(NamedTuple):
    """A group's sums; `labels` are in the order in which it was asked."""

    labels: Labels
    rest: str  # in whose place it stands; "": its own
    sums: NDArray[np.int64]


@dataclass(slots=True)
class LedgerAnswer:
    """What was asked, and what it comes to."""

    wish: LedgerWish
    rows: list[LedgerRow]
    since_ms: int = 0  # since when everything is in the ledger; 0: since the first row
    first_ms: int | None = None
    hours_missing: tuple[int, int] | None = None  # days of which no hours are kept
    n_damaged: int = 0
    alarms: list[dict[str, Any]] = field(default_factory=list)
    savings: dict[str, Any] | None = None  # as `savings_section` has it

    @property
    def total(self) -> NDArray[np.int64]:
        """What all rows sum up to."""
        return summed(self.rows)

    @property
    def begins_ms(self) -> int | None:
        """Since when there is a ledger, in epoch milliseconds; None: there is none."""
        return None if self.first_ms is None else self.since_ms or self.first_ms

    def as_json(self) -> dict[str, Any]:
        """Return it as one object."""
        wish, most = self.wish, self.wish.limit
        shown, left = first_rows(self.rows, most)
        begins, missing = self.begins_ms, self.hours_missing
        return {
            "since": iso(wish.since_ms, wish.zone),
            "until": iso(wish.until_ms, wish.zone),
            "zone": wish.zone.key,
            "by": [name.value for name in wish.by],
            "kept_since": None if begins is None else iso(begins, wish.zone),
            "rows": [_named(row, wish.by) for row in shown],
            "n_rows": len(self.rows),
            "rest": {"n_rows": len(left), **figures(summed(left))} if left else None,
            "total": figures(self.total),
            "kept_by_day": None if missing is None else [iso_day(day) for day in missing],
            "damaged": self.n_damaged,
            "alarms": self.alarms,
            "savings": self.savings,
        }


def answer(client: Client, configuration: Configuration, wish: LedgerWish) -> LedgerAnswer:
    """Return what the ledger says.

    Raises:
        RequestRejected: of what is asked something is not known or not kept together.
        redis.RedisError: the store is away.
    """
    known = ledger_names.known_names(client, configuration)
    only: dict[Dimension, frozenset[int]] = {}
    if wish.app is not None:
        only[Dimension.APP] = ledger_names.app_digests(wish.app, configuration, known)
    if wish.user is not None:
        among = ledger_names.user_digests(wish.user, wish.app, client, configuration)
        only[Dimension.USER] = among
    if wish.tag is not None:
        only[Dimension.TAG] = ledger_names.tag_digests(wish.tag, client)
    try:
        question = LedgerQuestion(wish.since_ms, wish.until_ms, wish.by, wish.zone, only)
        sums = read_ledger(client, configuration.store.shards, question)
    except UnknownTogether as error:
        message = f"by: '{error.dimension}' {error.reason}"
        raise RequestRejected("invalid_request", message, param="by") from None
    except TooManyGroups as error:
        message = f"by: {','.join(wish.by)!r}: {error}; ask for a shorter period, or by less"
        raise RequestRejected("invalid_request", message, param="by") from None
    if wish.user is not None and not len(sums.rows.keys):
        _require_known(client, configuration, wish.user, only)
    names = _names(client, configuration, wish, known, sums)
    missing = (sums.days_from, sums.days_to)
    return LedgerAnswer(
        wish,
        sort_rows(_merged(_labelled(sums, names)), wish.by),
        sums.since.at_ms,
        sums.since.first_ms,
        None if missing[0] is None or missing[1] is None else (missing[0], missing[1]),
        sums.n_damaged,
        savings=savings_section(client, configuration, wish, known),
    )


def _require_known(
    client: Client,
    configuration: Configuration,
    user: str,
    only: Mapping[Dimension, frozenset[int]],
) -> None:
    """Refuse a user who is not configured and never spent anything.

    Raises:
        RequestRejected: so it is.
    """
    if user in ledger_names.configured_users(configuration):
        return
    ever = LedgerQuestion(0, END_MS, (Dimension.USER,), only=only, columns=(C.ATTEMPTS,))
    if not len(read_ledger(client, configuration.store.shards, ever).rows.keys):
        message = f"user: {brief(user)}: no such user spent anything"
        raise RequestRejected("invalid_request", message, param="user")


def summed(rows: Sequence[LedgerRow]) -> NDArray[np.int64]:
    """Return (N_LEDGER_COLUMNS,) what some rows add up to."""
    if not rows:
        return np.zeros(N_LEDGER_COLUMNS, dtype=np.int64)
    return np.asarray(np.sum([row.sums for row in rows], axis=0))


def sort_rows(rows: Sequence[LedgerRow], by: Sequence[Dimension]) -> list[LedgerRow]:
    """Return rows in order of time, where it is asked by it, then the dearest first."""
    place = next((i for i, name in enumerate(by) if name in TIMES), None)

    def order(row: LedgerRow) -> tuple[str, int, int, str]:
        time = "" if place is None else row.labels[place] or ""
        return time, -int(row.sums[C.COST]), -int(row.sums[C.ATTEMPTS]), str(row.labels)

    return sorted(rows, key=order)


def first_rows(
    rows: Sequence[LedgerRow], most: int
) -> tuple[Sequence[LedgerRow], Sequence[LedgerRow]]:
    """Return the rows that cost most, in the order in which they were, and the others.

    Those of which something has no price come first: nobody knows what they cost.
    """
    if len(rows) <= most:
        return rows, ()
    dear = sorted(
        range(len(rows)),
        key=lambda i: (-int(rows[i].sums[C.COST]), -int(rows[i].sums[C.UNPRICED])),
    )
    shown = set(dear[:most])
    return (
        [row for i, row in enumerate(rows) if i in shown],
        [row for i, row in enumerate(rows) if i not in shown],
    )


def figures(sums: NDArray[np.int64]) -> dict[str, Any]:
    """Return what some sums say, for programs; a cost of which nothing is known is null."""
    calls, tokens_in = int(sums[C.CALLS]), int(sums[C.TOKENS_IN])
    unknown = is_unknown(sums)
    cost = None if unknown else int(sums[C.COST]) / NANO
    return {
        "calls": calls,
        "failed": int(sums[C.FAILED_CALLS]),
        "attempts": int(sums[C.ATTEMPTS]),
        "failed_attempts": int(sums[C.FAILED]),
        "cost_usd": cost,
        "cost_nano_usd": None if unknown else int(sums[C.COST]),
        "cost_is_whole": int(sums[C.UNPRICED]) == 0,
        "unpriced": int(sums[C.UNPRICED]),
        "estimated": int(sums[C.ESTIMATED]),
        "estimated_usd": int(sums[C.COST_ESTIMATED]) / NANO,
        "by_known_prices_usd": int(sums[C.COST_BY_KNOWN_PRICES]) / NANO,
        "by_provider_usd": int(sums[C.COST_BY_PROVIDER]) / NANO,
        "profiles_usd": int(sums[C.COST_PROFILED]) / NANO,
        "usd_per_1k_calls": None if cost is None or not calls else 1000 * cost / calls,
        "tokens_in": tokens_in,
        "tokens_cached": int(sums[C.TOKENS_CACHED]),
        "tokens_cache_write": int(sums[C.TOKENS_CACHE_WRITE]),
        "tokens_out": int(sums[C.TOKENS_OUT]),
        "tokens_reasoning": int(sums[C.TOKENS_REASONING]),
        "cached_share": int(sums[C.TOKENS_CACHED]) / tokens_in if tokens_in else None,
    }


def is_unknown(sums: NDArray[np.int64]) -> bool:
    """Return whether nothing is known of a cost: what was used had no price, and nothing else."""
    return bool(sums[C.UNPRICED] > 0 and sums[C.COST] == 0)


def _named(row: LedgerRow, by: Sequence[Dimension]) -> dict[str, Any]:
    names = {name.value: label for name, label in zip(by, row.labels, strict=True)}
    return {**names, **({"rest": row.rest} if row.rest else {}), **figures(row.sums)}


def _names(
    client: Client,
    configuration: Configuration,
    wish: LedgerWish,
    known: dict[int, str],
    sums: LedgerSums,
) -> LedgerNames:
    names = LedgerNames(known)
    if Dimension.MODEL in wish.by:
        names.of_model = ledger_names.model_names(client, configuration)
    if Dimension.USER in wish.by:
        names.of_user = ledger_names.user_names(client, configuration)
    if Dimension.TAG in wish.by:
        digests = set(sums.rows.keys["name"].tolist()) - {0}
        names.of_tag = ledger_names.tag_names(client, digests)
    return names


def _labelled(sums: LedgerSums, names: LedgerNames) -> Iterator[LedgerRow]:
    named = [name for name in sums.question.by if name in (Dimension.USER, Dimension.TAG)]
    rest = OTHERS if named else ""
    yield from _rows_of(sums, sums.rows, names, rest)
    if sums.unnamed is not None:
        yield from _rows_of(sums, sums.unnamed, names, UNNAMED)


def _rows_of(
    sums: LedgerSums, rows: LedgerRows, names: LedgerNames, rest: str
) -> Iterator[LedgerRow]:
    """Yield rows with their labels; `rest` is what a user or tag without a digest is."""
    question = sums.question
    columns: list[list[str | None]] = []
    is_named = np.ones(len(rows.keys), dtype=bool)
    for dimension in question.by:
        if dimension in TIMES:
            of_span = {
                span: span_name(dimension, span, question.zone)
                for span in np.unique(rows.spans).tolist()
            }
            columns.append([of_span[span] for span in rows.spans.tolist()])
            continue
        if key_field(dimension) not in (rows.keys.dtype.names or ()):
            digests = np.zeros(len(rows.keys), dtype=np.uint64)  # calls that name no user or tag
        else:
            digests = rows.keys[key_field(dimension)]
        of_digest = {digest: names.name(dimension, digest) for digest in set(digests.tolist())}
        columns.append([of_digest[digest] for digest in digests.tolist()])
        if key_field(dimension) == "name":
            is_named = digests != 0
    labels = zip(*columns, strict=True) if columns else ((),) * len(rows.keys)
    for label, one, own in zip(labels, rows.values, is_named.tolist(), strict=True):
        yield LedgerRow(tuple(label), "" if own else rest, one)


def _merged(rows: Iterator[LedgerRow]) -> list[LedgerRow]:
    """Return one row for each name: a task or endpoint may have had several digests."""
    found: dict[tuple[Labels, str], LedgerRow] = {}
    for row in rows:
        key = row.labels, row.rest
        before = found.get(key)
        if before is not None:
            row = LedgerRow(row.labels, row.rest, before.sums + row.sums)
        found[key] = row
    return list(found.values())
