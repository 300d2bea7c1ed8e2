"""The ledger held against the provider's own books and the client's, call by call.

Each call names a tag of its own, so that the ledger has a row for each, and the provider bills
each by its number. Both count in nano-dollars.

- Of a call that was answered in full at the first attempt the row is what the provider bills for
  it at the endpoint that answered, nothing less and nothing more.
- A call that was cut, refused or tried again may be billed and not be booked, or be booked by
  estimate; never is more booked as known than was billed. Such calls are listed, and they are the
  whole difference between the two books.
- The table of calls, which knows no tags, sums up to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.request import urlopen

from router.demo.simulator import ProviderBooks
from scripts.proofs.ledger import LedgerCall
from telemetry.digests import spend_tag_digest
from telemetry.ledger_questions import Dimension, LedgerQuestion
from telemetry.ledger_reading import read_ledger
from telemetry.ledger_rows import LedgerColumn, LedgerRows
from telemetry.store import Client

MOST_TOLD = 20
TAG = "call"
COLUMNS = (LedgerColumn.COST, LedgerColumn.COST_ESTIMATED, LedgerColumn.UNPRICED)
FOREVER_MS = 1 << 50
UNNAMED = -1
"""In place of a number: what is booked under no call's tag."""


class Bill(NamedTuple):
    """What the provider answered to a call at an endpoint, and bills; nano-USD."""

    n_answers: int
    cost: int

    @property
    def of_one(self) -> int:
        """What one of the answers costs; all of a call are alike."""
        return self.cost // self.n_answers


class BookedCall(NamedTuple):
    """What the ledger has under a call's tag; nano-USD."""

    cost: int = 0
    estimated: int = 0  # of the cost
    unpriced: int = 0  # attempts


class ApartCall(NamedTuple):
    """A call of which the two books may differ; nano-USD."""

    number: int
    billed: int
    booked: int
    estimated: int  # of what is booked

    @property
    def difference(self) -> int:
        """What is billed and not booked; below 0 where it is the other way."""
        return self.billed - self.booked


@dataclass(slots=True)
class BillsVerdict:
    """How far the ledger agrees with the provider's books; nano-USD."""

    n_equal: int = 0  # calls answered in full, booked as they are billed
    wrong: list[str] = field(default_factory=list)  # what must not be
    apart: list[ApartCall] = field(default_factory=list)  # calls of which they do differ
    billed: int = 0  # all of it
    booked: int = 0  # all of it, by the table of calls

    @property
    def difference(self) -> int:
        """What is billed and not booked."""
        return self.billed - self.booked

    def as_json(self) -> dict[str, Any]:
        """Return the figures."""
        return {
            "ledger_equal": self.n_equal,
            "ledger_wrong": len(self.wrong),
            "billed_nano_usd": self.billed,
            "booked_nano_usd": self.booked,
            "cut_nano_usd": sum(call.difference for call in self.apart),
            "cut_calls": [call._asdict() for call in self.apart],
        }

    def told(self) -> list[str]:
        """Return what there is to say, line by line."""
        out = [
            f"ledger: {self.n_equal} answers booked as the provider bills them; of "
            f"{self.billed / 1e9:.9f} USD {self.difference / 1e9:.9f} are not booked: "
            f"{len(self.apart)} calls that were cut"
        ]
        out += [
            f"  call {call.number}: billed {call.billed}, booked {call.booked}"
            + f", of it estimated {call.estimated}" * (call.estimated > 0)
            for call in self.apart
        ]
        out += [f"ledger: {line}" for line in self.wrong]
        rest = len(out) - 1 - MOST_TOLD
        return out if rest <= 0 else [*out[: 1 + MOST_TOLD], f"  and {rest} more"]


def judge_bills(
    bills: Mapping[tuple[int, int], Bill],
    calls: Iterable[LedgerCall],
    booked: Mapping[int, BookedCall],
    *,
    total: int,
) -> BillsVerdict:
    """Return how far the ledger agrees with the provider's books.

    Args:
        bills: by number of the call and endpoint, of all answers that left in full.
        calls: as their client saw them.
        booked: by number of the call; under `UNNAMED` what no call named.
        total: cost by the table of calls.
    """
    verdict = BillsVerdict(billed=sum(bill.cost for bill in bills.values()), booked=total)
    billed: dict[int, int] = {}
    for (number, _), one in bills.items():
        billed[number] = billed.get(number, 0) + one.cost
    numbers = set()
    for call in calls:
        numbers.add(call.number)
        row, whole = booked.get(call.number, BookedCall()), billed.get(call.number, 0)
        bill = bills.get((call.number, call.endpoint)) if call.answered else None
        wrong = _wrong(call, row, bill, whole)
        if wrong:
            verdict.wrong.append(f"call {call.number}: {wrong}")
        elif row.cost != whole:
            verdict.apart.append(ApartCall(call.number, whole, row.cost, row.estimated))
        elif call.answered:
            verdict.n_equal += 1
    for said, found in (("billed", billed), ("booked", booked)):
        unknown = sorted(found.keys() - numbers)
        verdict.wrong += [f"call {number}: {said}, and nobody made it" for number in unknown]
    rows = sum(row.cost for row in booked.values())
    if rows != total:
        verdict.wrong.append(f"{total} by the table of calls, {rows} by that of tags")
    verdict.apart.sort()
    return verdict


def _wrong(call: LedgerCall, row: BookedCall, bill: Bill | None, whole: int) -> str:
    """Return what must not be of a call.

    Args:
        bill: of the endpoint that answered; None: nobody did.
        whole: what is billed for it everywhere.
    """
    known = row.cost - row.estimated
    if row.unpriced:
        return f"{row.unpriced} attempts without a price"
    if known > whole:
        return f"billed {whole}, booked {known}"
    if not call.answered:
        return ""
    if bill is None or known < bill.of_one:
        return f"answered, billed {whole}, booked {known}"
    if call.attempts == 1 and not row.cost == bill.cost == whole:
        return f"answered at once, billed {whole}, booked {row.cost}"
    return ""


def read_bills(simulator: int) -> dict[tuple[int, int], Bill]:
    """Return what the simulated endpoints on a port bill, by number of the call and endpoint.

    Raises:
        OSError: they are away.
    """
    with urlopen(f"http://127.0.0.1:{simulator}/books") as reply:
        books = ProviderBooks.parse(reply.read())
    return {(number, endpoint): Bill(n, nano) for number, endpoint, n, nano in books.bills.tolist()}


def read_booked(
    client: Client, n_shards: int, numbers: Iterable[int], *, app: str
) -> tuple[dict[int, BookedCall], int]:
    """Return what the ledger has of each call, by its number, and the sum by the table of calls.

    Raises:
        redis.RedisError: the store is away.
    """
    number_of = {spend_tag_digest(app, TAG, str(number)): number for number in numbers}
    question = LedgerQuestion(0, FOREVER_MS, (Dimension.TAG,), columns=COLUMNS)
    found = read_ledger(client, n_shards, question)
    booked: dict[int, BookedCall] = {}
    digests = found.rows.keys["name"].tolist()
    for digest, row in zip(digests, _rows(found.rows), strict=True):
        number = number_of.get(digest, UNNAMED)
        before = booked.get(number, BookedCall())
        booked[number] = BookedCall(*(a + b for a, b in zip(before, row, strict=True)))
    whole = read_ledger(client, n_shards, LedgerQuestion(0, FOREVER_MS, columns=COLUMNS))
    return booked, sum(row.cost for row in _rows(whole.rows))


def _rows(rows: LedgerRows) -> list[BookedCall]:
    return [BookedCall(*row) for row in rows.values[:, list(COLUMNS)].tolist()]
