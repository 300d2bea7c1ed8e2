"""Figures, times and words as the page shows them. Pure.

Whatever anybody wrote comes through `shown`: one line, without what a screen would obey.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from bandit.report import Interval, Signal

MOST_CHARACTERS = 240
MOST_OF_SENTENCE = 2000
"""Of anybody's words: what is meant to be read is shorter, and a page has to end somewhere."""
SPARED = "\u200c\u200d\u00a0"
"""Words of some scripts are misspelt without the first two; figures hold together by the third."""
DAY_MS = 86_400_000
FIGURE = re.compile(r"[-+−]?[\d.,]+ (?:pp|%)(?: \[[^][]{1,24}\])?")


def shown(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return words as one line; what controls a terminal or turns its direction shows as `?`."""
    line = " ".join(text[: 2 * most].split())
    clean = "".join(c if c.isprintable() or c in SPARED else "?" for c in line)
    return clean if len(clean) <= most else f"{clean[: most - 1]}…"


def count(n: int, noun: str = "", plural: str = "") -> str:
    """Return how many: `1,204 calls`, `1 call`."""
    many = plural or f"{noun}s"
    return f"{n:,} {noun if n == 1 else many}".rstrip() if noun else f"{n:,}"


def money(usd: float) -> str:
    """Return an amount with as many digits as tell it from others of its size."""
    size = abs(usd)
    sign = "−" if usd < 0 else ""
    if not math.isfinite(usd):
        return "—"
    if size >= 1000:
        return f"{sign}${size:,.0f}"
    if size >= 0.1 or size == 0:
        return f"{sign}${size:,.2f}"
    digits = 1 - math.floor(math.log10(size))
    return f"{sign}${size:.{min(digits, 9)}f}"


def points(interval: Interval) -> str:
    """Return a difference of shares in percentage points, with what it lies within."""
    mean, low, high = (_signed(100 * x) for x in (interval.mean, interval.low, interval.high))
    return f"{mean} pp [{low}, {high}]"


def share(part: float) -> str:
    """Return a share: `12 %`; what is there and rounds to nothing is `< 1 %`."""
    if 0 < part < 0.005:
        return "< 1 %"
    return f"{100 * part:.0f} %"


def quality(interval: Interval) -> str:
    """Return a quality with what it lies within."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def amount(x: float, unit: str) -> str:
    """Return how much of a budget's unit."""
    if unit == "usd":
        return money(x)
    return f"{x:,.0f} {unit}"


def seconds(s: float) -> str:
    """Return a time that somebody waits."""
    digits = 0 if s >= 10 else 1 if s >= 1 else 2 if s >= 0.1 else 3
    return f"{s:.{digits}f} s"


def sentence(text: str) -> str:
    """Return words as one line that breaks in no figure and its interval."""
    return FIGURE.sub(lambda found: found[0].replace(" ", "\u00a0"), shown(text, MOST_OF_SENTENCE))


def joined(words: Sequence[str]) -> str:
    """Return words as a sentence lists them."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def signals(found: Sequence[Signal]) -> str:
    """Return what figures rest on: `12,400 tool-call checks and 210 thumbs`."""
    return joined([f"{one.n:,} {one.counted_name}" for one in found])


def moment(at_ms: int, now_ms: int) -> str:
    """Return a moment of UTC: with its year where that is another."""
    at, now = _utc(at_ms), _utc(now_ms)
    year = f" {at.year}" if at.year != now.year else ""
    return f"{at.day} {at:%b}{year} {at:%H:%M}"


def since(at_ms: int, now_ms: int) -> str:
    """Return since when: of today the time alone."""
    if 0 <= now_ms - at_ms < DAY_MS and _utc(at_ms).date() == _utc(now_ms).date():
        return f"{_utc(at_ms):%H:%M}"
    return moment(at_ms, now_ms)


def day(at_ms: int) -> str:
    """Return a day."""
    return f"{_utc(at_ms).day} {_utc(at_ms):%b}"


def stamp(at_ms: int) -> str:
    """Return a moment as programs read it."""
    return f"{_utc(at_ms):%Y-%m-%dT%H:%MZ}"


def _utc(at_ms: int) -> datetime:
    return datetime.fromtimestamp(min(max(at_ms, 0), 253_402_300_799_000) / 1000, UTC)


def _signed(x: float) -> str:
    rounded = round(x, 1)
    return "0.0" if rounded == 0 else f"{'+' if rounded > 0 else '−'}{abs(rounded):.1f}"
