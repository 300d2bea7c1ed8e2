"""The ledger on a terminal: at most eighty columns and forty lines, and as CSV. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from router.report.ledger import (
    OTHERS,
    UNNAMED,
    C,
    LedgerAnswer,
    LedgerRow,
    figures,
    first_rows,
    is_unknown,
    summed,
)
from router.report.ledger_wish import iso, iso_day
from telemetry.ledger_questions import TIMES, Dimension
from telemetry.ledger_rows import HOUR_MS

WIDTH, MOST_LINES = 80, 40
LEAST_ROWS = 5
MOST_ALARMS = 3
LEAST_NAME, GAP = 8, 1
LEAST_FIGURES = 2
"""Calls and USD."""
NONE = "-"
TOLD = ", but for what apps told of"
UNKNOWN = "unknown"
MORE = "+"
"""Behind a sum of which some attempts have no price: there is more."""
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take a cell for a formula by."""
MONEY = ("cost", "estimated", "by_known_prices", "by_provider", "profiles")
COUNTS = (
    *("calls", "failed", "attempts", "failed_attempts", "unpriced", "estimated_attempts"),
    *("tokens_in", "tokens_cached", "tokens_cache_write", "tokens_out", "tokens_reasoning"),
)
OF_MONEY = (C.COST, C.COST_ESTIMATED, C.COST_BY_KNOWN_PRICES, C.COST_BY_PROVIDER, C.COST_PROFILED)
OF_COUNTS = (
    *(C.CALLS, C.FAILED_CALLS, C.ATTEMPTS, C.FAILED, C.UNPRICED, C.ESTIMATED),
    *(C.TOKENS_IN, C.TOKENS_CACHED, C.TOKENS_CACHE_WRITE, C.TOKENS_OUT, C.TOKENS_REASONING),
)
NANO = Decimal(10) ** -9

Sums = NDArray[np.int64]


def table_lines(answer: LedgerAnswer, *, width: int = WIDTH) -> list[str]:
    """Return the answer as lines; the rows for which there is no room are one line."""
    head = [part for line in _head(answer) for part in folded(line, width)]
    notes = [*_notes(answer), *_alarm_lines(answer)]
    foot = [part for line in notes for part in folded(line, width)]
    # Beside the rows: the headings, the others, the sum.
    room = max(MOST_LINES - len(head) - len(foot) - 3, LEAST_ROWS)
    shown, left = first_rows(answer.rows, room)
    return [*head, *_table(answer, shown, left, width=width), *foot]


def csv_text(answer: LedgerAnswer) -> str:
    """Return all rows as CSV: a header, ISO dates, USD with nine decimals.

    A cost of which nothing is known is empty. What a spreadsheet would take for a formula has an
    apostrophe before it.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    by = [name.value for name in answer.wish.by]
    writer.writerow([*by, *COUNTS, *(f"{name}_usd" for name in MONEY)])
    for row in answer.rows:
        labels = [harmless(_label(row, i) or "") for i in range(len(by))]
        counts = [int(row.sums[column]) for column in OF_COUNTS]
        money = [usd(int(row.sums[column])) for column in OF_MONEY]
        if is_unknown(row.sums):
            money[0] = ""
        writer.writerow([*labels, *counts, *money])
    return out.getvalue()


def usd(nano: int) -> str:
    """Return nano-USD as USD, with all nine decimals."""
    return f"{Decimal(nano) * NANO:.9f}"


def harmless(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.lstrip(" ").startswith(FORMULA) else cell


def _head(answer: LedgerAnswer) -> Iterator[str]:
    wish = answer.wish
    since, until = iso(wish.since_ms, wish.zone), iso(wish.until_ms, wish.zone)
    yield f"spent from {_short(since)} to {_short(until)} ({wish.zone.key})"
    begins = answer.begins_ms
    if begins is not None:
        before = ""
        if begins > wish.since_ms:
            is_told = answer.first_ms is not None and answer.first_ms + HOUR_MS <= begins
            before = f": what was before is not in it{TOLD if is_told else ''}"
        yield f"the ledger runs since {_short(iso(begins, wish.zone))}{before}"


def _short(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _table(
    answer: LedgerAnswer, shown: Sequence[LedgerRow], left: Sequence[LedgerRow], *, width: int
) -> Iterator[str]:
    by, total = answer.wish.by, answer.total
    names = [_named(row, by) for row in shown]
    columns = zip([n.value for n in by], *names, strict=True)
    longest = [max(map(cell_len, column)) for column in columns]
    least = [n if by[i] in TIMES else min(n, LEAST_NAME) for i, n in enumerate(longest)]
    sums, below = [row.sums for row in shown], list[str]()
    if left:
        sums.append(summed(left))
        below.append(f"{OTHERS} ({len(left):,} rows)")
    if by or not shown:
        sums.append(total)
        below.append("all")
    headings, cells = _figures(total, sums, width - sum(least) - len(least) * GAP)
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    of_names = _name_widths(longest, least, width - sum(widths) - len(widths) * GAP)
    room = max(sum(of_names) + (len(of_names) - 1) * GAP, *map(len, below), 0)
    beside = [" ".join(_placed(labels, of_names)) for labels in ([n.value for n in by], *names)]
    for name, values in zip([*beside, *below], [headings, *cells], strict=True):
        figures_ = " ".join(value.rjust(w) for value, w in zip(values, widths, strict=True))
        yield f"{set_cell_size(name, room)} {figures_}" if room else figures_


def _figures(
    total: Sums, sums: Sequence[Sums], room: int
) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    """Return headings and rows of figures: none that is 0 everywhere, or that has no room."""
    found = ["calls", "USD"]
    found += ["unpriced"] if total[C.UNPRICED] else []
    found += ["$/1k calls"]
    found += ["est."] if total[C.ESTIMATED] else []
    found += ["cached"] if total[C.TOKENS_CACHED] else []
    while True:
        cells = [_cells(row, found) for row in sums]
        widths = [max(map(len, column)) for column in zip(found, *cells, strict=True)]
        if sum(widths) + len(widths) * GAP <= room or len(found) == LEAST_FIGURES:
            return found, cells
        found.pop()


def _cells(sums: Sums, headings: Sequence[str]) -> list[str]:
    said = figures(sums)
    more = "" if said["cost_is_whole"] else MORE
    cost, per_1k, cached = said["cost_usd"], said["usd_per_1k_calls"], said["cached_share"]
    estimated = said["estimated_usd"] / cost if cost else None
    found = {
        "calls": f"{said['calls']:,}",
        "USD": UNKNOWN if cost is None else f"{amount(cost)}{more}",
        "$/1k calls": NONE if per_1k is None else f"{amount(per_1k)}{more}",
        "unpriced": f"{said['unpriced']:,}",
        "est.": NONE if estimated is None else f"{estimated:.0%}",
        "cached": NONE if cached is None else f"{cached:.0%}",
    }
    return [found[heading] for heading in headings]


def amount(value: float) -> str:
    """Return USD with cents, or with as many decimals as small sums take."""
    if value >= 100:
        return f"{value:,.2f}"
    return f"{value:.4f}" if value >= 0.01 or value == 0 else f"{value:.9f}".rstrip("0")


def _name_widths(longest: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return how wide each name may be: as long as it is, or what is left for it."""
    found = list(longest)
    room -= max(len(found) - 1, 0) * GAP
    while sum(found) > room and found != least:
        place = max(range(len(found)), key=lambda i: (found[i] > least[i], found[i]))
        found[place] -= 1
    return found


def _named(row: LedgerRow, by: Sequence[Dimension]) -> list[str]:
    """Return a row's labels for people: an hour without its offset, which the zone tells."""
    said = [_label(row, i) or NONE for i in range(len(by))]
    labels = ["".join(c if c.isprintable() else "?" for c in label) for label in said]
    return [
        label[:16].replace("T", " ") if name is Dimension.HOUR else label
        for name, label in zip(by, labels, strict=True)
    ]


def _placed(labels: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for label, width in zip(labels, widths, strict=True):
        fits = cell_len(label) <= width
        yield set_cell_size(label if fits else f"{set_cell_size(label, width - 1)}…", width)


def _label(row: LedgerRow, place: int) -> str | None:
    """Return a label; in place of a user or tag, whom the row is of."""
    label = row.labels[place]
    if label is None and row.rest:
        return f"({row.rest})"
    return label


def _notes(answer: LedgerAnswer) -> Iterator[str]:
    """Yield what is to be known of the sum."""
    sums = answer.total
    said = figures(sums)
    if not answer.rows:
        yield "nothing was spent in this period"
    if said["unpriced"]:
        yield (
            f"unpriced: {said['unpriced']:,} of {said['attempts']:,} attempts used what has no "
            f"known price: their cost is in no sum ({MORE}); write `prices` of their endpoints"
        )
    if said["estimated"]:
        yield (
            f"estimated: {_usd_of(C.COST_ESTIMATED, sums)} of {said['estimated']:,} attempts "
            "whose usage nobody told"
        )
    if sums[C.COST_BY_KNOWN_PRICES]:
        known = _usd_of(C.COST_BY_KNOWN_PRICES, sums)
        yield f"by published prices, which you did not write: {known}"
    if sums[C.COST_BY_PROVIDER]:
        yield f"by the provider's own word alone: {_usd_of(C.COST_BY_PROVIDER, sums)}"
    if sums[C.COST_PROFILED]:
        yield f"by profiles and checks: {_usd_of(C.COST_PROFILED, sums)}"
    if said["tokens_in"]:
        yield (
            f"tokens: {said['tokens_in']:,} in ({(said['cached_share'] or 0):.0%} cached), "
            f"{said['tokens_out']:,} out"
        )
    if said["attempts"]:
        yield (
            f"calls: {said['calls']:,}, without a good answer {said['failed']:,}; attempts: "
            f"{said['attempts']:,}, failed {said['failed_attempts']:,}"
        )
    if answer.hours_missing is not None and _needs_hours(answer):
        first, last = map(iso_day, answer.hours_missing)
        yield f"from {first} to {last} whole days of UTC are kept, no hours"
    elif set(answer.wish.by) & {Dimension.USER, Dimension.TAG} and answer.wish.zone.key != "UTC":
        yield "users and tags are kept by whole days of UTC"
    if any(row.rest == UNNAMED for row in answer.rows):
        yield f"({UNNAMED}): calls that name none"
    if answer.n_damaged:
        yield f"damaged: {answer.n_damaged} days of a shard cannot be read, and are in no sum"


def _needs_hours(answer: LedgerAnswer) -> bool:
    return Dimension.HOUR in answer.wish.by or answer.wish.zone.key != "UTC"


def _usd_of(column: C, sums: Sums) -> str:
    whole, part = int(sums[C.COST]), int(sums[column])
    share = f" ({part / whole:.1%})" if whole else ""
    return f"{amount(part / 1e9)} USD{share}"


def _alarm_lines(answer: LedgerAnswer) -> Iterator[str]:
    for alarm in answer.alarms[:MOST_ALARMS]:
        yield alarm["text"]
    if len(answer.alarms) > MOST_ALARMS:
        yield f"{len(answer.alarms) - MOST_ALARMS} more such alarms: pointsman report"


def folded(line: str, width: int) -> Iterator[str]:
    """Yield a line in parts that fit; the further ones are indented."""
    while len(line) > width:
        cut = line.rfind(" ", 0, width + 1)
        cut = cut if cut > width // 2 else width
        yield line[:cut].rstrip()
        line = f"  {line[cut:].lstrip()}"
    yield line
