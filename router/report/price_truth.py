"""Whether prices are true: what providers say that calls cost, beside what prices make of them.

Where both are known of a hundred attempts that were booked by a price entry as it stands now, and
differ by more than two in a hundred, one of them is wrong: an alarm names the entry, both sums, and
what to do. What was booked by another entry, or by this one before it was corrected, says nothing
of it; nor does a cost that an app told.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from router.beliefs.alarms import MAX_ALARMS
from router.config.compiled import Configuration
from router.config.file import read
from router.config.tree import parse_yaml
from router.endpoints.catalog import Catalog, Endpoint
from router.endpoints.rates import EVER, PriceList, Tariff
from router.errors import ConfigError
from router.report.ledger_wish import LedgerWish, since_of_days
from telemetry import keys
from telemetry.digests import digest8
from telemetry.ledger_questions import Dimension, LedgerQuestion
from telemetry.ledger_reading import read_ledger
from telemetry.ledger_rows import LedgerColumn, LedgerRows
from telemetry.store import Client

log = structlog.get_logger()

DAYS = 30
"""So many days are looked at."""
LEAST_ATTEMPTS = 100
MOST_APART = 0.02
NANO = 1e9
KIND = "price"
"""What is announced among the alarms of endpoints."""
LOOKED_BACK = 1000
"""Of the last alarms: what was told there is not told again."""
COLUMNS = (LedgerColumn.N_REPORTED, LedgerColumn.REPORTED, LedgerColumn.REPORTED_BY_PRICE)

PriceLines = Mapping[tuple[str, str | None], int]
"""By endpoint and the day from which an entry holds: the line in which it stands."""


@dataclass(frozen=True, slots=True)
class PriceDoubt:
    """A price that its provider does not bill."""

    endpoint: str
    entry: str  # what it is, and where it stands
    entry_digest: str  # of what it says
    since: str  # the first day of these attempts
    attempts: int
    by_price_usd: float
    reported_usd: float
    fix: str

    @property
    def line(self) -> str:
        """The alarm as a line for people."""
        apart = abs(self.reported_usd / self.by_price_usd - 1) if self.by_price_usd else 1.0
        way = "more" if self.reported_usd > self.by_price_usd else "less"
        return (
            f"{self.endpoint}: its provider reports {apart:.1%} {way} than {self.entry} makes: "
            f"{self.reported_usd:.6f} against {self.by_price_usd:.6f} USD of {self.attempts:,} "
            f"attempts since {self.since}; {self.fix}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return it as one object."""
        return {"kind": KIND, **asdict(self), "text": self.line}


def find_doubts(
    client: Client,
    catalog: Catalog,
    *,
    n_shards: int,
    now_s: float,
    file: Path | None = None,
) -> list[PriceDoubt]:
    """Return the prices that are in doubt.

    Args:
        file: the configuration, for the lines in which prices stand; it is read where one is.

    Raises:
        redis.RedisError: the store is away.
    """
    until_ms = since_of_days(-1, now_s=now_s)
    by = (Dimension.ENDPOINT, Dimension.PRICE, Dimension.DAY)
    since_ms = since_of_days(DAYS - 1, now_s=now_s)
    sums = read_ledger(client, n_shards, LedgerQuestion(since_ms, until_ms, by, columns=COLUMNS))
    found = [
        doubt
        for endpoint in catalog.endpoints
        if (doubt := _doubt(endpoint, sums.rows, now_s=now_s)) is not None
    ]
    if not found:
        return []
    lines = price_lines(file) if file is not None else {}
    return [_told(apart, lines) for apart in found]


def doubts_about(
    client: Client, doubts: list[PriceDoubt], configuration: Configuration, wish: LedgerWish
) -> list[PriceDoubt]:
    """Return the doubts about prices of endpoints that an answer is about: of its app's calls.

    Raises:
        redis.RedisError: the store is away.
    """
    if wish.app is None or not doubts:
        return doubts
    only = {Dimension.APP: frozenset({digest8("app", wish.app)})}
    question = LedgerQuestion(wish.since_ms, wish.until_ms, (Dimension.ENDPOINT,), only=only)
    called = read_ledger(client, configuration.store.shards, question).rows.keys["endpoint"]
    listed, found = configuration.catalog.by_digest, set(called.tolist())
    ids = {listed[digest].id for digest in found if digest in listed}
    return [doubt for doubt in doubts if doubt.endpoint in ids]


class _Apart(NamedTuple):
    """Sums of an endpoint that are too far apart."""

    endpoint: Endpoint
    prices: PriceList
    tariff: Tariff
    since: str
    n: int
    reported: int
    by_price: int


def _doubt(endpoint: Endpoint, rows: LedgerRows, *, now_s: float) -> _Apart | None:
    """Return what the price in force comes to beside the provider's word, if that is too far."""
    if endpoint.prices is None:
        return None
    tariff = endpoint.prices.at(now_s)
    mine = (rows.keys["endpoint"] == endpoint.digest) & (rows.keys["price"] == tariff.mark)
    n, reported, by_price = rows.values[mine][:, list(COLUMNS)].sum(axis=0).tolist()
    if n < LEAST_ATTEMPTS or abs(reported - by_price) <= MOST_APART * by_price:
        return None
    since = date.fromordinal(int(rows.spans[mine].min())).isoformat()
    return _Apart(endpoint, endpoint.prices, tariff, since, n, reported, by_price)


def _told(apart: _Apart, lines: PriceLines) -> PriceDoubt:
    endpoint, tariff = apart.endpoint, apart.tariff
    day = None if tariff.from_s == EVER else _day(tariff.from_s)
    begun = f" from {day}" if day is not None else ""
    if apart.prices.is_declared:
        line = lines.get((endpoint.id, day), 0)
        entry = f"its price{begun} in the configuration" + (f" (line {line})" if line else "")
        fix = "correct the price, or add one with the day `from` which it holds"
    else:
        entry = f"its known price{begun} (genai-prices)"
        fix = f"write what you pay: `prices` of endpoint {endpoint.id}"
    return PriceDoubt(
        endpoint.id,
        entry,
        f"{digest8(json.dumps(tariff.as_json(), sort_keys=True)):016x}",
        apart.since,
        apart.n,
        apart.by_price / NANO,
        apart.reported / NANO,
        fix,
    )


def price_lines(file: Path) -> PriceLines:
    """Return in which lines of a configuration prices stand; nothing where it cannot be read."""
    found: dict[tuple[str, str | None], int] = {}
    with suppress(OSError, ConfigError, UnicodeDecodeError, AttributeError, TypeError):
        tree = parse_yaml(read(file), str(file))
        spots = tree.findings.spots
        for i, endpoint in enumerate(tree.root["endpoints"]):
            prices, where = endpoint.get("prices"), ("endpoints", i, "prices")
            entries = enumerate(prices) if isinstance(prices, list) else [(None, prices)]
            for place, entry in entries:
                if not isinstance(entry, dict):
                    continue
                spot = spots.get(where if place is None else (*where, place))
                day = entry.get("from")
                named = str(endpoint.get("id")), None if day is None else str(day)
                found[named] = spot.line if spot is not None else 0
    return found


def announce(client: Client, doubts: list[PriceDoubt]) -> list[PriceDoubt]:
    """Put what nobody announced yet among the alarms of endpoints, and into the log; return it.

    One price is told once: by whichever router finds it first.

    Raises:
        redis.RedisError: the store is away, or takes no writes.
    """
    if not doubts:
        return []
    told = set(_announced(client))
    fresh = [doubt for doubt in doubts if (doubt.endpoint, doubt.entry_digest) not in told]
    for doubt in fresh:
        alarm = json.dumps(doubt.as_json())
        client.xadd(keys.ALARMS, {"alarm": alarm}, maxlen=MAX_ALARMS, approximate=True)
        log.warning("a provider bills another price", **asdict(doubt))
    return fresh


def _announced(client: Client) -> Iterator[tuple[str, str]]:
    for _, entry in client.xrevrange(keys.ALARMS, count=LOOKED_BACK):
        with suppress(ValueError, KeyError, TypeError):
            alarm = json.loads(entry[b"alarm"])
            if alarm["kind"] == KIND:
                yield alarm["endpoint"], alarm["entry_digest"]


def _day(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).date().isoformat()
