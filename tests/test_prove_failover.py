"""The proof of failover proves something: each kind of bad conduct has its verdict."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scripts.proofs import failover
from scripts.proofs.fault_player import FaultCase
from scripts.proofs.faults import NAMES, NO_PREFILL, PRIMARY_PROMPT, SPARE_PROMPT, SixteenFaults
from scripts.proofs.provider import Cut, ProviderRequest, Send, Step, Wait
from scripts.proofs.replies import TEXT, WORDS
from scripts.proofs.verdicts import (
    BookedAttempt,
    CallEnd,
    CallView,
    FaultRun,
    FaultVerdict,
    judge_run,
    worst,
)
from scripts.proofs.views import read_leniently

PASS, PARTIAL, SAFE, FAIL = FaultVerdict


def rescued(took_s: float = 1.0) -> CallView:
    return CallView(CallEnd.WHOLE, 0.0, took_s, "p.spare", SPARE_PROMPT)


def repeated(took_s: float = 1.0) -> CallView:
    return CallView(CallEnd.WHOLE, 0.0, took_s, "p", PRIMARY_PROMPT)


def told(error: str = "503 all_endpoints_failed: no endpoint answered") -> CallView:
    return CallView(CallEnd.ERROR, 0.0, 1.0, error=error)


def run(
    fault: int, *calls: CallView, primary: tuple[float, ...] = (0.0,), spare: int = 0
) -> FaultRun:
    return FaultRun(fault, True, "p", calls, primary, (1.0,) * spare)


def verdict(run: FaultRun) -> FaultVerdict:
    return judge_run(run)[0]


@pytest.mark.parametrize("fault", sorted(set(NAMES) - {13, 15, 16}))
@pytest.mark.parametrize("end", [CallEnd.HANG, CallEnd.CUT, CallEnd.BROKEN])
def test_a_hang_a_cut_answer_and_an_unreadable_error_always_fail(fault: int, end: CallEnd) -> None:
    assert verdict(run(fault, replace(rescued(), end=end))) is FAIL


@pytest.mark.parametrize("fault", sorted(set(NAMES) - {13, 15, 16}))
def test_a_clean_error_is_safe_where_an_answer_was_possible(fault: int) -> None:
    assert verdict(run(fault, told())) is SAFE


@pytest.mark.parametrize("fault", [2, 4, 5, 6, 7, 8, 9, 10, 12, 14])
def test_the_spare_answering_passes(fault: int) -> None:
    assert verdict(run(fault, rescued(), spare=1)) is PASS


@pytest.mark.parametrize("fault", [2, 4, 5, 10])
def test_more_than_six_attempts_fail(fault: int) -> None:
    attempts = tuple(float(4 * n) for n in range(7))

    assert verdict(run(fault, rescued(30), primary=attempts[:6], spare=1)) is PASS
    assert verdict(run(fault, rescued(30), primary=attempts, spare=1)) is FAIL


def test_a_dead_sidecar_fails_whatever_it_answered() -> None:
    assert verdict(replace(run(10, repeated()), alive=False)) is FAIL


@pytest.mark.parametrize(
    ("primary", "call", "expected"),
    [
        ((0.0, 2.0), repeated(2), PASS),
        ((0.0, 1.85), repeated(2), PASS),
        ((0.0, 1.7), repeated(2), PARTIAL),
        ((0.0,), rescued(), PARTIAL),
        ((0.0, 0.5), repeated(), PARTIAL),
        ((0.0, 0.5, 1.0), repeated(), FAIL),
    ],
)
def test_an_announced_pause_is_to_be_waited_for(
    primary: tuple[float, ...], call: CallView, expected: FaultVerdict
) -> None:
    assert verdict(run(1, call, primary=primary)) is expected
    scaled = tuple(at / 10 for at in primary)
    quick = replace(run(1, replace(call, ended_s=call.ended_s / 10), primary=scaled), scale=0.1)
    assert verdict(quick) is expected


@pytest.mark.parametrize(("n", "expected"), [(4, PASS), (5, FAIL)])
def test_a_limited_endpoint_is_not_hammered(n: int, expected: FaultVerdict) -> None:
    attempts = tuple(0.5 * i for i in range(n))

    assert verdict(run(2, rescued(), primary=attempts, spare=1)) is expected


def test_one_error_is_repeated_once_at_the_same_endpoint() -> None:
    assert verdict(run(3, repeated(), primary=(0.0, 0.3))) is PASS
    assert verdict(run(3, rescued(), primary=(0.0,), spare=1)) is PARTIAL


def test_who_is_silent_is_asked_once_and_not_waited_for_long() -> None:
    assert verdict(run(6, rescued(13), spare=1)) is PASS
    assert verdict(run(6, rescued(31), spare=1)) is FAIL
    assert verdict(run(6, rescued(13), primary=(0.0, 8.0), spare=1)) is FAIL
    assert verdict(run(7, rescued(14), spare=1)) is PASS
    assert verdict(run(7, repeated(20.5))) is PARTIAL
    assert verdict(run(9, rescued(46), spare=1)) is FAIL


def test_nobody_waits_for_the_word_that_does_not_come() -> None:
    assert verdict(run(11, repeated(5.5))) is PASS
    assert verdict(run(11, repeated(9))) is FAIL
    assert verdict(run(11, replace(repeated(), prompt_tokens=None))) is PARTIAL


def test_usage_is_of_whoever_answered() -> None:
    assert verdict(run(4, replace(rescued(), prompt_tokens=PRIMARY_PROMPT), spare=1)) is FAIL


def test_a_verdict_on_the_content_is_passed_on_and_nothing_else() -> None:
    reason = told("400 content_filter: filtered")

    assert verdict(run(13, reason)) is PASS
    assert verdict(run(13, told("502 all_endpoints_failed"))) is PARTIAL
    assert verdict(run(13, rescued(), spare=1)) is FAIL
    assert verdict(run(13, reason, spare=1)) is FAIL
    assert verdict(run(13, reason, primary=(0.0, 1.0))) is FAIL


def test_what_cannot_fit_is_not_sent_again() -> None:
    assert verdict(run(12, rescued(), primary=(0.0, 1.0), spare=1)) is FAIL


def test_the_spares_refusal_does_not_hide_the_failure() -> None:
    assert verdict(run(14, told(f"400 None: {NO_PREFILL}"), spare=1)) is FAIL


def outage(primary: tuple[float, ...], *, back_at: float = 64.0) -> FaultRun:
    """Twenty calls and more, one each four seconds; those from `back_at` on reach the primary."""
    calls = tuple(
        CallView(
            CallEnd.WHOLE,
            at,
            at + 0.5,
            "p" if at >= back_at else "p.spare",
            PRIMARY_PROMPT if at >= back_at else SPARE_PROMPT,
        )
        for at in (4.0 * n for n in range(25))
    )
    return FaultRun(15, True, "p", calls, primary, ())


def test_an_endpoint_that_is_down_is_probed_and_comes_back() -> None:
    while_down = (0.1, 0.3, 4.1, 4.3, 8.1)

    assert verdict(outage((*while_down, 16.1, 32.1, 64.1))) is PASS
    assert verdict(outage((*while_down, 16.1, 16.4, 64.1))) is FAIL, "two attempts for a probe"
    assert verdict(outage((*while_down, 16.1, 32.1), back_at=999)) is FAIL, "it never returns"
    assert verdict(outage((*while_down, 96.1), back_at=96)) is FAIL, "it returns too late"
    every_call = tuple(4 * n + 0.1 for n in range(17))
    assert verdict(outage(every_call)) is FAIL, "the breaker never opens"


FAILED = BookedAttempt(at_primary=True, result="SERVER", final=False, tokens=0, cost_nano=0)
ANSWERED = BookedAttempt(at_primary=False, result="OK", final=True, tokens=83, cost_nano=143)


@pytest.mark.parametrize(
    ("booked", "expected"),
    [
        ((FAILED, FAILED, ANSWERED), PASS),
        ((FAILED, ANSWERED), FAIL),
        ((FAILED, FAILED), FAIL),
        ((), FAIL),
        ((FAILED, FAILED, replace(ANSWERED, final=False)), FAIL),
        ((FAILED, replace(FAILED, result="OK"), ANSWERED), FAIL),
        ((FAILED, replace(FAILED, tokens=5), ANSWERED), FAIL),
        ((FAILED, replace(FAILED, cost_nano=5), ANSWERED), FAIL),
    ],
)
def test_failed_attempts_are_booked_as_attempts(
    booked: tuple[BookedAttempt, ...], expected: FaultVerdict
) -> None:
    seen = run(16, rescued(), primary=(0.0, 0.3), spare=1)

    assert verdict(replace(seen, booked=booked)) is expected


def test_a_fault_counts_by_its_worst_run() -> None:
    assert worst([PASS, SAFE, PARTIAL]) is SAFE
    runs = [run(8, rescued(), spare=1), run(8, told())]

    figures = failover.report({mode: (runs, (30, 39)) for mode in failover.MODES})

    assert figures["live"] == {"passed": 0, "partial": 0, "safe": 1, "failed": 0}
    assert [fault["fault"] for fault in figures["faults"]] == [8]
    assert not failover.is_sound(figures), "buffered, it has to pass"
    figures["faults"][0]["buffered"]["verdict"] = "passed"
    assert failover.is_sound(figures), "live, it may be told"
    figures["all_down"]["live"]["attempts"] = 40
    assert not failover.is_sound(figures), "39 attempts are the most for 30 calls"


# -- the provider's side ------------------------------------------------------------------------


def request(model: str, at: float = 0.0) -> ProviderRequest:
    body = {"model": model, "stream": True, "stream_options": {"include_usage": True}}
    return ProviderRequest(at, "/v1/chat/completions", {}, body, 0)


def sent(steps: list[Step]) -> bytes:
    return b"".join(step.data for step in steps if isinstance(step, Send))


def test_every_healthy_answer_is_the_same_sixty_words() -> None:
    script = SixteenFaults(1.0)
    for fault in sorted(NAMES):
        contents, seems_whole, _ = read_leniently(sent(list(script(request(f"{fault}.0.spare")))))
        assert (contents, seems_whole) == ({0: TEXT}, True)
    assert len(WORDS) == 60


@pytest.mark.parametrize("fault", [8, 9, 14])
def test_a_stream_that_breaks_off_holds_neither_all_words_nor_an_end(fault: int) -> None:
    steps = list(SixteenFaults(1.0)(request(f"{fault}.0")))

    contents, seems_whole, _ = read_leniently(sent(steps))

    assert len(contents[0].split()) == (20 if fault == 9 else 40)
    assert not seems_whole
    assert steps[-1] is Cut.CLOSE


def test_waits_shrink_and_faults_of_once_end() -> None:
    waits = {}
    for scale in (1.0, 0.1):
        script = SixteenFaults(scale)
        waits[scale] = [s.s for s in script(request("7.0")) if isinstance(s, Wait)]
        assert b"429" in sent(list(script(request("1.0"))))[:20]
        assert b"200" in sent(list(script(request("1.0"))))[:20]
        assert b"429" in sent(list(script(request("1.1"))))[:20], "each run begins anew"
        down = [sent(list(script(request("15.0", at)))) for at in (5.0, 5 + 59 * scale)]
        assert all(b"503" in each[:20] for each in down)
        assert b"200" in sent(list(script(request("15.0", 5 + 61 * scale))))[:20]
    assert waits[0.1] == [pytest.approx(0.1 * s) for s in waits[1.0]]


def test_the_configuration_has_the_limits_that_it_is_said_to_have() -> None:
    assert failover.timeouts(1.0) == {
        "connect_s": 3,
        "first_token_s": 8,
        "stall_s": 10,
        "answer_s": 12,
        "beside_s": {"first_token": 10, "answer": 30},
    }
    assert failover.timeouts(0.1)["beside_s"] == {"first_token": 1, "answer": 3}
    shown = failover.shown_configuration(1.0)
    assert "answer_s: 12" in shown
    assert "fallback: any" in shown


def test_the_silent_fault_is_tried_without_a_stream_too() -> None:
    cases = failover.cases_of(list(NAMES), 3)

    assert len(cases) == 17 * 3
    assert [c for c in cases if not c.streamed] == [FaultCase(6, n, False) for n in range(3)]
    assert len({case.model for case in cases}) == len(cases)
