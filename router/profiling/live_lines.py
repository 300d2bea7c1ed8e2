"""What a live check found, as lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from router.profiling.live_verdicts import CheckedEndpoint, ComparedFact, LiveVerdict

MARKS = {
    LiveVerdict.VERIFIED: "ok",
    LiveVerdict.DISAGREES: "DISAGREES",
    LiveVerdict.UNKNOWN: "not known",
}
ROUNDING_USD = 1e-9
"""Sums are of whole nano-USD."""
HEADINGS = ("", "declared", "found", "")


def lines_of(checked: Sequence[CheckedEndpoint]) -> Iterator[str]:
    """Yield a paragraph for each endpoint, and then what to change, and the sum."""
    for one in checked:
        yield from _paragraph(one)
    changes = [line for one in checked for line in one.changes]
    if changes:
        yield "to change (nothing was written there):"
        yield from (f"  {line}" for line in changes)
    called = [one for one in checked if not one.is_skipped]
    n = sum(one.calls for one in called)
    failed = [one.endpoint for one in checked if one.is_failure]
    about = "about " if any(one.cost_is_estimated for one in called) else ""
    spent = f"{about}{sum(one.cost_usd for one in called):.5f} USD{_above(called)}"
    yield f"{_counted(len(called), 'endpoint')}, {_counted(n, 'call')}, {spent}: " + (
        f"see {', '.join(failed)}" if failed else "all as declared"
    )


def _paragraph(one: CheckedEndpoint) -> Iterator[str]:
    if one.is_skipped:
        yield f"{one.endpoint}: not called: {one.reason}; {one.fix}"
        return
    if one.reason:
        yield f"{one.endpoint}: CANNOT BE USED: {one.reason}; {one.fix}"
        return
    yield f"{one.endpoint}: answers ({one.dialect}, under the rules of {one.app})"
    rows = [HEADINGS, *map(_cells, one.compared)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        yield f"  {'  '.join((*padded, row[3]))}".rstrip()


def _above(called: Sequence[CheckedEndpoint]) -> str:
    """Return by whom the sum is above the bound that was shown; "" where it is not."""
    bound = sum(one.most_usd or 0.0 for one in called)
    if sum(one.cost_usd for one in called if one.most_usd is not None) <= bound + ROUNDING_USD:
        return ""
    by = [
        f"{one.endpoint}, which {one.over or 'cost more than its prices foretold'}"
        for one in called
        if one.most_usd is not None and one.cost_usd > one.most_usd + ROUNDING_USD
    ]
    return f", above the {bound:.5f} that was shown, by {'; '.join(by)}"


def _counted(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def _cells(one: ComparedFact) -> tuple[str, str, str, str]:
    detail = f": {one.detail}" if one.detail else ""
    return one.what, one.declared, one.found, f"{MARKS[one.verdict]}{detail}"
