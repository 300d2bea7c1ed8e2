"""The proof of the pipeline proves something: it notices what is lost and what is doubled."""

from __future__ import annotations

import dataclasses
import json
import random
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bandit.families import N_COLUMNS, Q, U
from scripts.proofs.bills import UNNAMED, ApartCall, Bill, BillsVerdict, BookedCall, judge_bills
from scripts.proofs.chaos import poison
from scripts.proofs.ledger import (
    CALLS_PER_TASK,
    FOLDS,
    LEVELS,
    NO_LABEL,
    LedgerCall,
    LedgerVerdict,
    Sums,
    digits,
    judge,
    tokens,
)
from telemetry import decoding, events, frames
from telemetry.errors import MalformedEvent
from telemetry.tokens import Token

N_TASKS, N_ENDPOINTS = 2, 3
ROOT = Path(__file__).parent.parent


def ledger() -> list[LedgerCall]:
    """Calls of two tasks: most answered and labelled, some cut, some after a failed attempt."""
    labelled: dict[tuple[int, int], int] = {}
    calls = []
    for number in range(N_TASKS * CALLS_PER_TASK):
        if number % 7 == 3:
            calls.append(LedgerCall(number, answered=False))
            continue
        cell = number // CALLS_PER_TASK, number % N_ENDPOINTS
        label = labelled.get(cell, 0)
        labelled[cell] = label + 1
        label = label if label < len(LEVELS) and number % 5 else NO_LABEL
        attempts = 2 if number == 8 else 1
        calls.append(LedgerCall(number, True, cell[1], attempts, label))
    return calls


def folded(calls: list[LedgerCall]) -> Sums:
    """What those calls leave, if all goes well."""
    sums = Sums(*(np.zeros((N_TASKS, N_ENDPOINTS, N_COLUMNS), dtype=np.int64) for _ in range(3)))
    for call in calls:
        if call.answered:
            fold(sums, call)
            sums.usage[call.number // CALLS_PER_TASK, 0, U.CALLS] += call.attempts - 1
            label(sums, call)
    return sums


def fold(sums: Sums, call: LedgerCall, times: int = 1, endpoint: int | None = None) -> None:
    cell = sums.usage[
        call.number // CALLS_PER_TASK, call.endpoint if endpoint is None else endpoint
    ]
    cell[[U.CALLS, U.N]] += times
    cell[[U.TOKENS_IN, U.TOKENS_OUT]] += np.array(tokens(call.number)) * times


def label(sums: Sums, call: LedgerCall, times: int = 1) -> None:
    if call.label != NO_LABEL:
        cell = sums.quality[call.number // CALLS_PER_TASK, call.endpoint]
        cell[[Q.LABELS, Q.N]] += times
        cell[Q.R] += FOLDS**call.label * times


def test_books_that_agree_are_clean() -> None:
    calls = ledger()

    assert judge(folded(calls), calls) == LedgerVerdict(0, 0)


def test_a_call_that_was_cut_may_be_folded_once_and_not_twice() -> None:
    calls = ledger()
    cut = next(c for c in calls if not c.answered)
    for n, endpoint, doubled in ((1, 0, 0), (1, 1, 1), (1, 1, 2)):
        sums = folded(calls) if n == 1 and endpoint == 0 else sums  # noqa: F821
        fold(sums, cut, endpoint=endpoint)
        verdict = judge(sums, calls)
        assert verdict.lost == 0
        assert (verdict.doubled > 0) is (doubled > 0)


@pytest.mark.parametrize("number", [0, 15, 16, 31, 40])
@pytest.mark.parametrize("times", [-1, 1, 2, FOLDS, FOLDS + 1])
def test_one_lost_or_doubled_outcome_is_noticed(number: int, times: int) -> None:
    calls = ledger()
    call = next(c for c in calls if c.number >= number and c.answered)
    sums = folded(calls)

    fold(sums, call, times)

    verdict = judge(sums, calls)
    assert (verdict.lost > 0) if times < 0 else (verdict.doubled > 0)


def test_a_lost_outcome_does_not_hide_behind_one_that_was_cut() -> None:
    """The plain counts agree, and yet one effect is missing."""
    calls = ledger()
    cut = next(c for c in calls if not c.answered)
    kept = next(c for c in calls if c.answered)
    sums = folded(calls)

    fold(sums, cut, endpoint=kept.endpoint)
    fold(sums, kept, -1)

    assert judge(sums, calls).lost == 1


def test_a_failed_attempt_that_is_missing_is_noticed() -> None:
    calls = ledger()
    sums = folded(calls)
    sums.usage[0, 0, U.CALLS] -= 1

    assert judge(sums, calls).lost == 1


@pytest.mark.parametrize("times", [-1, 1, FOLDS])
def test_one_lost_or_doubled_label_is_noticed(times: int) -> None:
    calls = ledger()
    sums = folded(calls)

    label(sums, next(c for c in calls if c.label == 2), times)

    verdict = judge(sums, calls)
    assert (verdict.lost > 0) if times < 0 else (verdict.doubled > 0)


def test_a_label_that_was_corrected_or_retracted_must_be_gone() -> None:
    calls = ledger()
    sums = folded(calls)
    place, call = next((i, c) for i, c in enumerate(calls) if c.label == 1)

    calls[place] = dataclasses.replace(call, label=NO_LABEL)

    assert judge(sums, calls).doubled == 1


def test_digits_say_how_often_each_was_folded() -> None:
    assert digits(1 + 2 * FOLDS + 3 * FOLDS**2, 5) == [1, 2, 3, 0, 0]


BILLS = {(1, 0): Bill(1, 5), (2, 2): Bill(1, 70), (3, 1): Bill(1, 3), (5, 1): Bill(2, 6)}
CALLS = [
    LedgerCall(1, answered=True, endpoint=0),
    LedgerCall(2, answered=True, endpoint=2),
    LedgerCall(3, answered=False),
    LedgerCall(4, answered=False),
    LedgerCall(5, answered=True, endpoint=1, attempts=2),
]
BOOKED = {1: BookedCall(5), 2: BookedCall(70), 4: BookedCall(8, estimated=8), 5: BookedCall(3)}


def judged(*, total: int | None = None, **booked: BookedCall | None) -> BillsVerdict:
    """The books above, but for some calls."""
    rows: dict[int, BookedCall] = dict(BOOKED)
    for name, row in booked.items():
        rows.pop(int(name[1:]), None)
        rows |= {} if row is None else {int(name[1:]): row}
    total = sum(row.cost for row in rows.values()) if total is None else total
    return judge_bills(BILLS, CALLS, rows, total=total)


def test_what_a_kill_cut_is_listed_and_is_the_whole_difference_of_the_two_books() -> None:
    found = judged()

    assert (found.n_equal, found.wrong) == (2, [])
    assert found.apart == [ApartCall(3, 3, 0, 0), ApartCall(4, 0, 8, 8), ApartCall(5, 6, 3, 0)]
    assert found.difference == 84 - 86 == sum(call.difference for call in found.apart)
    assert "call 4: billed 0, booked 8, of it estimated 8" in "\n".join(found.told())
    told = found.as_json()
    assert (told["billed_nano_usd"], told["booked_nano_usd"], told["cut_nano_usd"]) == (84, 86, -2)


@pytest.mark.parametrize(
    "booked",
    [
        {"_1": None},
        {"_1": BookedCall(4)},
        {"_1": BookedCall(10)},
        {"_1": BookedCall(6, estimated=1)},
        {"_2": BookedCall(70, unpriced=1)},
        {"_3": BookedCall(4)},
        {"_4": BookedCall(1)},
        {"_5": BookedCall(2)},
        {"_5": BookedCall(9)},
        {"_9": BookedCall(1)},
    ],
)
def test_a_nano_dollar_too_few_or_too_many_is_wrong(booked: dict[str, BookedCall | None]) -> None:
    assert len(judged(**booked).wrong) == 1


def test_what_no_call_named_and_what_one_table_alone_has_is_wrong() -> None:
    rows = {**BOOKED, UNNAMED: BookedCall(0)}
    assert judge_bills(BILLS, CALLS, rows, total=86).wrong == [
        "call -1: booked, and nobody made it"
    ]
    assert judged(total=85).wrong == ["85 by the table of calls, 86 by that of tags"]


def test_every_kind_of_poison_makes_the_dead_letters_it_says() -> None:
    token = Token(0, 1, 0, secrets.token_bytes(16), 1, *[0] * 7, 0.0, 0.0, 0.0).pack()
    record = events.outcome(token, result=events.Result.OK, attempt=1, status=200, flags=0)
    raw = frames.pack(frames.Frame(secrets.token_bytes(16), 1, 5, record * 3))
    for seed in range(400):
        bad, n_dead = poison(raw, 1, random.Random(seed))
        try:
            frame = frames.unpack(bad)
        except MalformedEvent:
            assert n_dead == 1
            continue
        sound, unsound = decoding.decode(frame.body)
        assert (len(sound), len(unsound)) == (0, n_dead)


# -- on the running parts -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_proof_notices_one_event_too_few_and_one_too_many() -> None:
    """Both in one run: each is told by a figure of its own."""
    command = [sys.executable, "-m", "scripts.proofs", "pipeline", "--kills", "0", "--json"]
    sabotages = ["--sabotage", "lose", "--sabotage", "double"]

    done = subprocess.run(
        [*command, *sabotages], capture_output=True, text=True, cwd=ROOT, timeout=300
    )

    assert done.returncode == 1, done.stderr
    figures = json.loads(done.stdout)
    assert min(figures["lost"], figures["doubled"]) > 0
    assert figures["ledger_wrong"] > 0
    assert figures["audit_equal"] is True  # the parts themselves know nothing of it
    assert figures["dead_lettered"] == figures["poisoned"]
