"""Running a plan: an endpoint, again, the next one, and one beside another that is slow."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from router.budgets.leaves import Leave
from router.dispatch.attempt import MAX_ATTEMPTS, Attempt, AttemptFailed, Reply
from router.dispatch.fates import Fate
from router.dispatch.retries import may_take_over, pause_before_repeat_s
from router.dispatch.rival import Overtaken, Rival
from router.endpoints.catalog import Endpoint
from router.endpoints.health import Health
from router.endpoints.retries import RetryBudget
from router.endpoints.suspensions import Fields
from router.errors import AllEndpointsFailed, DispatchError, Misconfigured
from router.net.deadline import Deadline
from telemetry.events import Result


class Permit(Struct, frozen=True):
    """Leave to make an attempt."""

    endpoint: Endpoint
    grant: Leave | None = None  # by the budgets and limits that hold; settled with the attempt


class Failed(NamedTuple):
    """An attempt that came to nothing."""

    endpoint: Endpoint
    failure: AttemptFailed


class Unanswered(Exception):
    """Whoever could be asked has failed."""


class Asks(Protocol):
    """How the call of a race is put to endpoints."""

    deadline: float  # monotonic seconds, after which nothing is begun

    def candidates(self) -> Iterator[Endpoint]:
        """Return whom to ask after the drawn endpoint, in order."""

    def permit(self, endpoint: Endpoint) -> Permit | None:
        """Return leave to ask an endpoint that nothing can refuse; None: `permits` knows."""

    async def permits(self, endpoint: Endpoint) -> Permit | None:
        """Return leave to ask an endpoint; None where it may not have it any more."""

    def ask(self, attempt: Attempt, clock: Deadline) -> Coroutine[Any, Any, Reply]:
        """Make an attempt within a deadline, which it moves; raises AttemptFailed."""

    def beside_s(self, attempt: Attempt) -> float:
        """Return after how long another may be started beside it."""


class Raced(Protocol):
    """What a race needs of its call beside that."""

    repeatable: bool  # it stores nothing, so that it may go out twice
    failures: list[Failed]

    def begin(self, permit: Permit, number: int, *, has_others: bool) -> Attempt:
        """Return an attempt that is under way from now on."""

    def fail(self, attempt: Attempt, failure: AttemptFailed) -> None:
        """Book that it failed."""

    def note_second_start(self, endpoint: Endpoint) -> None:
        """Count that it is asked beside a slow one."""


class Race:
    """The attempts of one call: one after the other, and at times two at once."""

    __slots__ = (
        "_asks",
        "_budget",
        "_call",
        "_candidates",
        "_failures",
        "_first",
        "_following",
        "_health",
        "_n_begun",
    )

    def __init__(
        self,
        call: Raced,
        asks: Asks,
        candidates: Iterator[Endpoint] | None,
        health: Health,
        budget: RetryBudget,
    ) -> None:
        """Prepare.

        Args:
            candidates: whom to ask, in order; None: `asks` says it once somebody must know.
        """
        self._call, self._asks = call, asks
        self._failures = call.failures
        self._candidates = candidates
        self._following: Endpoint | None = None  # the next of them, where it was looked at
        self._health, self._budget = health, budget
        self._n_begun = 0
        self._first: Endpoint | None = None

    async def run(self, first: Endpoint, *, has_others: bool, is_beside: bool = False) -> Reply:
        """Return the first answer of this endpoint, of it again, or of those after it.

        Args:
            has_others: another endpoint may serve the call.
            is_beside: it begins while another is asked.

        Raises:
            Unanswered: there is none.
        """
        endpoint, n_repeats, was_down = first, 0, False
        while time.monotonic() < self._asks.deadline:
            permit = self._asks.permit(endpoint) or await self._permitted(endpoint)
            if permit is None:
                break
            # From here to the attempt's begin nothing is waited for: what was reserved is settled.
            if permit.endpoint is not endpoint:
                endpoint, n_repeats = permit.endpoint, 0
            if n_repeats == 0:  # a pause that this call was asked for is no reason
                was_down = self._health.is_open(endpoint.digest)
            self._n_begun += 1
            attempt = self._call.begin(permit, self._n_begun, has_others=has_others)
            if is_beside:
                self._call.note_second_start(endpoint)
                is_beside = False
            self._first = self._first or endpoint
            try:
                return await self._ask(attempt, has_others=has_others)
            except AttemptFailed as failure:
                if failure.own is not None and self._is_final(endpoint, failure):
                    return failure.own
                self._fail(attempt, failure)
            if self._n_begun >= MAX_ATTEMPTS or self._ends_here(self._failures[-1].failure):
                break
            following = self._next(endpoint)
            has_others = following is not None
            may_repeat = not was_down and self._health.may_repeat(endpoint.digest)
            if may_repeat and await self._waits_to_repeat(n_repeats, has_others=has_others):
                n_repeats += 1
                continue
            if following is None or not self._may_ask(following):
                break
            self._following = None
            endpoint, n_repeats = following, 0
        raise Unanswered

    def _is_final(self, endpoint: Endpoint, failure: AttemptFailed) -> bool:
        """Return whether a refusal is the client's to see, whatever others might say.

        A verdict on the content is, whoever gave it. What another endpoint finds wrong with the
        request is not: the first one may not.
        """
        if failure.fate is Fate.VERDICT:
            return True
        return failure.fate is Fate.REQUEST and endpoint is self._first

    def _ends_here(self, failure: AttemptFailed) -> bool:
        """Return whether nobody is asked after this failure.

        What stores something goes out once, unless it was plainly turned down.
        """
        plain = failure.own is not None or not failure.is_sent
        return failure.fate is Fate.REQUEST or not (self._call.repeatable or plain)

    async def _ask(self, attempt: Attempt, *, has_others: bool) -> Reply:
        """Ask one endpoint; where it is slow, the next one beside it: the first content wins."""
        may_race = has_others and self._call.repeatable
        slow_s = self._asks.beside_s(attempt) if may_race else math.inf
        rival: Rival[Reply] = Rival(slow_s, partial(self._start_beside, attempt))
        try:
            try:
                with rival:
                    reply = await self._asks.ask(attempt, rival)
            except TimeoutError:
                waited_s = time.monotonic() - attempt.began_at
                why = f"nothing within {waited_s:.1f} s"
                raise AttemptFailed(Result.TIMEOUT, why) from None
        except Overtaken:
            return await rival.result()
        except AttemptFailed as failure:
            if not rival.may_answer or self._is_final(attempt.endpoint, failure):
                await _give_up(rival)
                raise
            self._fail(attempt, failure)
            return await rival.result()
        except BaseException:
            await _give_up(rival)
            raise
        if rival.has_begun:
            await _give_up(rival)
        return reply

    def _start_beside(self, slow: Attempt) -> Coroutine[Any, Any, Reply] | None:
        """Return what is started beside a slow attempt, where that may be."""
        endpoint = None if slow.has_spoken else self._next(None)
        if endpoint is None or self._n_begun >= MAX_ATTEMPTS or not self._budget.spend():
            return None
        self._following = None
        return self.run(endpoint, has_others=True, is_beside=True)

    def _fail(self, attempt: Attempt, failure: AttemptFailed) -> None:
        self._failures.append(Failed(attempt.endpoint, failure))
        self._call.fail(attempt, failure)

    def _next(self, failed: Endpoint | None) -> Endpoint | None:
        """Return who is to be asked next, and leave it there.

        Args:
            failed: who failed just now; None: nobody did.
        """
        if self._candidates is None:
            self._candidates = self._asks.candidates()
        if self._following is None:
            self._following = next(self._candidates, None)
        if failed is not None:
            fate = self._failures[-1].failure.fate
            while self._following and not may_take_over(self._following, failed, fate):
                self._following = next(self._candidates, None)
        return self._following

    async def _permitted(self, endpoint: Endpoint) -> Permit | None:
        """Return leave for an endpoint, or the next that may have the call; None: nobody may."""
        found: Endpoint | None = endpoint
        while found is not None:
            permit = await self._asks.permits(found)
            if permit is not None:
                return permit
            found, self._following = self._next(None), None
        return None

    async def _waits_to_repeat(self, n_repeats: int, *, has_others: bool) -> bool:
        """Return whether the same endpoint is to be asked again, once it is time."""
        wait_s = pause_before_repeat_s(
            self._failures[-1].failure,
            n_repeats,
            has_others=has_others,
            left_s=self._asks.deadline - time.monotonic(),
            random=random.random,
        )
        if wait_s is None or not self._budget.spend():
            return False
        await asyncio.sleep(wait_s)
        return True

    def _may_ask(self, endpoint: Endpoint) -> bool:
        """Return whether a fallback may be tried: freely, unless it failed just now itself."""
        failed_just_now = self._health.failed_lately(endpoint.digest, time.monotonic())
        return not failed_just_now or self._budget.spend()


def is_at_hand(endpoint: Endpoint, health: Health) -> bool:
    """Return whether nothing that `order` looks at can hold an endpoint back."""
    digest, rates = endpoint.digest, endpoint.rates
    return not (
        digest in health.troubled
        or digest in health.suspended
        or endpoint.most_in_flight is not None
        or rates.said
        or rates.unsaid
    )


def order(
    first: Endpoint,
    then: Iterator[Endpoint],
    health: Health,
    *,
    usable: bool,
    fields: Callable[[Endpoint], Fields],
    is_used_up: Callable[[Endpoint], bool],
) -> Iterator[Endpoint]:
    """Yield whom to try: `first` unless it may not serve, then the others.

    An endpoint whose breaker is open, that refuses what the call carries, or takes no more in this
    minute, is passed over while there is another one.

    Args:
        fields: of the call's body, as it is sent to an endpoint.
        is_used_up: whether an endpoint takes no more in this minute.
    """

    def passed_over(endpoint: Endpoint) -> bool:
        digest, now = endpoint.digest, time.monotonic()
        return (
            health.is_blocked(digest, now)
            or is_used_up(endpoint)
            or health.is_suspended(digest, lambda: fields(endpoint), now)
        )

    later: list[Endpoint] = []
    if usable and not health.is_full(first):
        if passed_over(first):
            later.append(first)
        else:
            yield first
    for endpoint in then:
        if health.is_full(endpoint):
            continue
        if passed_over(endpoint):
            later.append(endpoint)
        else:
            yield endpoint
    yield from later[:1]


def choose_refusal(failures: Sequence[Failed]) -> Reply | None:
    """Return whose refusal the client is to see after nobody answered; None: none of theirs.

    What may work in a moment comes first: the client's SDK will ask again. Then what the first
    endpoint said, as the client would have got it directly.
    """
    moments = [f.failure for f in failures if f.failure.fate is Fate.MOMENT]
    if any(failure.own for failure in moments):
        return next(failure.own for failure in reversed(moments) if failure.own)
    told = [f for f in failures if f.failure.own and f.failure.fate is not Fate.ENDPOINT]
    mine = [f for f in told if f.endpoint is failures[0].endpoint]
    if mine or not moments:
        return next((f.failure.own for f in reversed(mine or told)), None)
    return None


def error_of(failures: Sequence[Failed], *, timed_out: bool) -> DispatchError:
    """Return what is said where nobody answered, and no refusal is the client's to see."""
    if all(f.failure.fate is Fate.ENDPOINT for f in failures):
        return Misconfigured(failures[-1].endpoint.id)
    said = [(f.endpoint.id, str(f.failure)) for f in failures]
    return AllEndpointsFailed(said, timed_out=timed_out)


async def _give_up(rival: Rival[Reply]) -> None:
    """End a rival; an answer of its that nobody took is closed."""
    reply = await rival.stop()
    if reply is not None:
        await reply.aclose()
