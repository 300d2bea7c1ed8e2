"""What was seen of a fault, and the verdict on it. Pure.

- pass: the whole right answer, and every check of conduct
- partial: answered, but an advisory check failed
- safe: no answer, but a bounded and clean error
- fail: a hang, a cut answer as success, an error that no client can read, or a required check

Times of the provider's faults shrink with `scale`; what no configuration shrinks does not: the
breaker's pauses, and how long a stream that seems whole is listened to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from itertools import pairwise

from scripts.proofs.faults import DOWN_S, NO_PREFILL, PRIMARY_PROMPT, SPARE_PROMPT

MOST_ATTEMPTS = 6
"""At one endpoint, whatever happens."""
PROBE_S = 1.0
"""The shortest pause of an open breaker, as the documentation has it."""
EARLY = 0.9
"""Of that pause: the provider's clock starts later than the sidecar's."""
RETURN_S = 30.0
UNDONE_S = 8.0


class FaultVerdict(IntEnum):
    """From best to worst."""

    PASS = 0
    PARTIAL = 1
    SAFE = 2
    FAIL = 3


class CallEnd(StrEnum):
    """How a call ended for its client."""

    WHOLE = "whole"  # all of the answer
    CUT = "cut"  # less or other than that, as success
    ERROR = "error"  # one that the SDK knows as the provider's or ours
    BROKEN = "broken"  # no answer, and no error that says what happened
    HANG = "hang"


@dataclass(frozen=True, slots=True)
class CallView:
    """What the client saw of one call; seconds since the run began."""

    end: CallEnd
    began_s: float
    ended_s: float
    model: str = ""
    prompt_tokens: int | None = None
    error: str = ""

    @property
    def took_s(self) -> float:
        """How long it waited in all."""
        return self.ended_s - self.began_s


@dataclass(frozen=True, slots=True)
class BookedAttempt:
    """One attempt in the sidecar's books."""

    at_primary: bool
    result: str
    final: bool
    tokens: int
    cost_nano: int


@dataclass(frozen=True, slots=True)
class FaultRun:
    """One fault, played once; attempts are seconds since the run began."""

    fault: int
    streamed: bool
    primary_model: str
    calls: tuple[CallView, ...]
    primary: tuple[float, ...]
    spare: tuple[float, ...]
    scale: float = 1.0
    alive: bool = True  # the sidecar, afterwards
    booked: tuple[BookedAttempt, ...] | None = None  # where they were read

    @property
    def first(self) -> CallView:
        """The call, where there is one."""
        return self.calls[0]


@dataclass(frozen=True, slots=True)
class Breach:
    """A check of conduct that failed."""

    why: str
    required: bool = True


def judge_run(run: FaultRun) -> tuple[FaultVerdict, str]:
    """Return the verdict on one run, and why it is no better."""
    for call in run.calls:
        if call.end in (CallEnd.HANG, CallEnd.CUT, CallEnd.BROKEN):
            return FaultVerdict.FAIL, f"{call.end}{f': {call.error}' if call.error else ''}"
    breaches = [*_general(run), *_CONDUCT[run.fault](run)]
    required = [b.why for b in breaches if b.required]
    if required:
        return FaultVerdict.FAIL, required[0]
    failed = next((c for c in run.calls if c.end is CallEnd.ERROR), None)
    if failed is not None and run.fault != 13:
        return FaultVerdict.SAFE, failed.error
    if breaches:
        return FaultVerdict.PARTIAL, breaches[0].why
    return FaultVerdict.PASS, ""


def worst(verdicts: Sequence[FaultVerdict]) -> FaultVerdict:
    """Return what a fault counts as: the worst of its runs."""
    return max(verdicts)


def _general(run: FaultRun) -> Iterator[Breach]:
    if not run.alive:
        yield Breach("the sidecar is gone")
    if run.fault != 15 and len(run.primary) > MOST_ATTEMPTS:
        yield Breach(f"{len(run.primary)} attempts at the broken endpoint")
    for call in run.calls:
        counts = {run.primary_model: PRIMARY_PROMPT}.get(call.model, SPARE_PROMPT)
        if call.prompt_tokens is not None and call.prompt_tokens != counts:
            yield Breach("usage of another endpoint than the model's")


def _waits(run: FaultRun) -> Iterator[Breach]:
    since = [at - run.primary[0] for at in run.primary[1:]]
    if sum(gap < 1.5 * run.scale for gap in since) > 1:
        yield Breach("asked again and again before Retry-After was over")
    if not since:
        yield Breach("not waited for: the spare answered", required=False)
    elif since[0] < 1.8 * run.scale:
        yield Breach(f"asked again after {since[0]:.2f} s", required=False)


def _backs_off(run: FaultRun) -> Iterator[Breach]:
    if sum(at - run.primary[0] <= 3 * run.scale for at in run.primary) > 4:
        yield Breach("more than 4 attempts within 3 s")


def _repeats(run: FaultRun) -> Iterator[Breach]:
    if len(run.primary) != 2 or run.first.model != run.primary_model:
        yield Breach("not repeated once at the same endpoint", required=False)


def _leaves_the_silent(run: FaultRun) -> Iterator[Breach]:
    if len(run.primary) > 1:
        yield Breach("the silent endpoint was asked again")
    if run.first.took_s > 30 * run.scale:
        yield Breach(f"took {run.first.took_s:.1f} s")


def _leaves_the_slow(run: FaultRun) -> Iterator[Breach]:
    if run.first.took_s > 15 * run.scale:
        yield Breach(f"took {run.first.took_s:.1f} s", required=False)


def _ends_the_stalled(run: FaultRun) -> Iterator[Breach]:
    if run.first.took_s > 45 * run.scale:
        yield Breach(f"took {run.first.took_s:.1f} s")


def _finishes(run: FaultRun) -> Iterator[Breach]:
    if run.first.took_s > UNDONE_S:
        yield Breach(f"waited {run.first.took_s:.1f} s for [DONE]")
    if run.first.prompt_tokens is None:
        yield Breach("no usage", required=False)


def _finds_room(run: FaultRun) -> Iterator[Breach]:
    if len(run.primary) > 1:
        yield Breach("the same was sent to the same model again")


def _heeds_the_filter(run: FaultRun) -> Iterator[Breach]:
    if run.first.end is CallEnd.WHOLE or run.spare:
        yield Breach("routed around a verdict on the content")
    if len(run.primary) > 1:
        yield Breach("asked again after a verdict on the content")
    if "content_filter" not in run.first.error:
        yield Breach("the provider's reason is lost", required=False)


def _restarts_cleanly(run: FaultRun) -> Iterator[Breach]:
    if NO_PREFILL in run.first.error:
        yield Breach("the spare's refusal hides what went wrong")


def _probes(run: FaultRun) -> Iterator[Breach]:
    back_s = run.primary[0] + DOWN_S * run.scale
    while_down = [c for c in run.calls if c.ended_s < back_s]
    passed_over = [
        c for c in while_down if not any(c.began_s <= at <= c.ended_s for at in run.primary)
    ]
    if not passed_over:
        yield Breach("the breaker never opened")
        return
    probes = [at for at in run.primary if passed_over[0].began_s < at < back_s]
    if any(b - a < EARLY * PROBE_S for a, b in pairwise(probes)):
        yield Breach("two probes within one interval")
    returned = [c for c in run.calls if c.model == run.primary_model and c.began_s >= back_s]
    if not returned or returned[0].ended_s > back_s + RETURN_S:
        yield Breach(f"not back within {RETURN_S:.0f} s")


def _books(run: FaultRun) -> Iterator[Breach]:
    if run.first.end is CallEnd.WHOLE and run.first.prompt_tokens != SPARE_PROMPT:
        yield Breach("the answer's usage is not the spare's")
    failed = [b for b in run.booked or () if b.at_primary]
    answered = [b for b in run.booked or () if not b.at_primary]
    if len(failed) != len(run.primary) or len(answered) != len(run.spare):
        yield Breach(f"{len(failed)} and {len(answered)} attempts in the books")
    if any(b.final or b.result == "OK" or b.tokens or b.cost_nano for b in failed):
        yield Breach("a failed attempt is booked as an answer")
    if [b for b in answered if b.final and b.result == "OK"] != answered:
        yield Breach("the answer is not booked as one")


def _nothing_more(_: FaultRun) -> Iterator[Breach]:
    return iter(())


_CONDUCT: dict[int, Callable[[FaultRun], Iterator[Breach]]] = {
    1: _waits,
    2: _backs_off,
    3: _repeats,
    4: _nothing_more,
    5: _nothing_more,
    6: _leaves_the_silent,
    7: _leaves_the_slow,
    8: _nothing_more,
    9: _ends_the_stalled,
    10: _nothing_more,
    11: _finishes,
    12: _finds_room,
    13: _heeds_the_filter,
    14: _restarts_cleanly,
    15: _probes,
    16: _books,
}
