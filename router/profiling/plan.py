"""Which prompts go where, what that costs at a guess, and who is left out. Pure.

Of each task so many prompts as a cell may have are taken, in the order of their digests: the same
at every endpoint and in every run. They are sent by turns, so that all cells have had as many when
money ends.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import ceil, floor, log10
from typing import Any

from msgspec import Struct

from router.endpoints.catalog import Endpoint
from router.profiling.log import Logged
from router.profiling.money import estimated_s, estimated_usd, is_without_limit, size_of
from router.profiling.prompts import ProfilePrompt

MOST_AT_ONCE = 4
"""Calls that an endpoint has under way, unless its own limits say fewer."""


class Foretold(Struct, frozen=True):
    """What a dry run says of a prompt."""

    task: str
    exclusions: dict[str, str]  # by endpoint
    incumbent: str | None = None  # who would serve it without this


class Ask(Struct, frozen=True):
    """A prompt that is to go to an endpoint."""

    turn: int
    prompt: ProfilePrompt
    task: str
    endpoint: Endpoint
    usd: float | None  # at a guess; None: no price is known
    judge_usd: float = 0.0

    @property
    def reserved_usd(self) -> float:
        """What is set aside for it."""
        return (self.usd or 0.0) + self.judge_usd

    @property
    def cell(self) -> tuple[str, str]:
        """By which a log knows it."""
        return self.prompt.digest, self.endpoint.id


@dataclass(slots=True)
class ProfilePlan:
    """All that is to be sent, in its order."""

    asks: list[Ask]
    endpoints: Sequence[Endpoint]
    judge: Endpoint | None
    excluded: Mapping[str, Counter[str]]  # by endpoint: reason -> prompts
    n_prompts: Mapping[str, int]  # by task, that are used
    n_in_file: Mapping[str, int]  # by task, of which those are
    done: int = 0  # calls that earlier runs ended
    spent_usd: float = 0.0  # by those, and by what may have been paid for
    perhaps_paid_usd: float = 0.0  # of that
    cut_off: int = 0  # calls that ended with their process
    kept: int = 0  # answers that earlier runs did not come to grade
    notes: list[str] = field(default_factory=list)
    incumbent: str | None = None  # who serves most of the prompts without this

    @property
    def usd(self) -> float:
        """What is still to be spent, at a guess."""
        return sum(ask.reserved_usd for ask in self.asks)

    @property
    def seconds(self) -> dict[str, float]:
        """How long each endpoint is busy, at a guess."""
        busy: defaultdict[str, float] = defaultdict(float)
        for ask in self.asks:
            busy[ask.endpoint.id] += estimated_s(size_of(ask.prompt.body)[1])
        return {e.id: busy[e.id] / most_at_once(e) for e in self.endpoints if busy[e.id]}

    def as_json(self, *, max_usd: float, workers: int) -> dict[str, Any]:
        """Return it as it is shown."""
        seconds = self.seconds
        rows = [self._row(endpoint, seconds) for endpoint in self.endpoints]
        all_s = sum(s * most_at_once(e) for e in self.endpoints if (s := seconds.get(e.id)))
        return {
            "endpoints": rows,
            "judge": self.judge.id if self.judge is not None else None,
            "judge_place": place_of(self.judge) if self.judge is not None else None,
            "judge_usd": sum(ask.judge_usd for ask in self.asks),
            "tasks": dict(self.n_prompts),
            "in_file": dict(self.n_in_file),
            "calls": len(self.asks),
            "done": self.done,
            "spent_usd": self.spent_usd,
            "perhaps_paid_usd": self.perhaps_paid_usd,
            "interrupted": self.cut_off,
            "kept": self.kept,
            "estimated_usd": self.usd,
            "estimated_s": max([*seconds.values(), all_s / workers], default=0.0),
            "max_usd": max_usd,
            "affordable_calls": self._affordable(max_usd),
            "first_usd": rounded_up(self.asks[0].reserved_usd) if self.asks else 0.0,
            "without_limit": any(is_without_limit(ask.prompt.body) for ask in self.asks),
            "notes": self.notes,
        }

    def _row(self, endpoint: Endpoint, seconds: Mapping[str, float]) -> dict[str, Any]:
        own = [ask for ask in self.asks if ask.endpoint is endpoint]
        return {
            "endpoint": endpoint.id,
            "place": place_of(endpoint),
            "calls": len(own),
            "estimated_usd": sum(ask.usd or 0.0 for ask in own),
            "has_price": endpoint.prices is not None or endpoint.terms.is_subscribed,
            "estimated_s": seconds.get(endpoint.id, 0.0),
            "excluded": dict(self.excluded.get(endpoint.id, {})),
        }

    def _affordable(self, max_usd: float) -> int:
        """Return how many of the calls the money is enough for, at a guess."""
        usd = self.spent_usd
        for n, ask in enumerate(self.asks):
            usd += ask.reserved_usd
            if usd > max_usd:
                return n
        return len(self.asks)


def make_plan(
    prompts: Iterable[ProfilePrompt],
    foretold: Mapping[str, Foretold],
    endpoints: Sequence[Endpoint],
    *,
    judge: Endpoint | None,
    per_cell: int,
    logged: Logged,
    at_s: float,
) -> ProfilePlan:
    """Return what is still to be sent.

    Where a prompt was cut off at an endpoint, the next one of its task takes its place there.

    Args:
        foretold: by a prompt's digest.
        logged: what earlier runs did.
        at_s: epoch seconds.
    """
    by_task: defaultdict[str, list[ProfilePrompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda prompt: prompt.digest):
        by_task[foretold[prompt.digest].task].append(prompt)
    asks: list[Ask] = []
    excluded: defaultdict[str, Counter[str]] = defaultdict(Counter)
    used: defaultdict[str, set[str]] = defaultdict(set)
    done = 0
    for (task, own), endpoint in product(by_task.items(), endpoints):
        excluded[endpoint.id].update(_reasons(own[:per_cell], foretold, endpoint))
        for turn, prompt in enumerate(_chosen(own, foretold, endpoint, per_cell, logged)):
            used[task].add(prompt.digest)
            if logged.is_done((prompt.digest, endpoint.id)):
                done += 1
            else:
                asks.append(_ask(turn, prompt, task, endpoint, judge, at_s))
    asks.sort(key=lambda ask: (ask.turn, ask.task, ask.endpoint.index))
    return ProfilePlan(
        asks,
        endpoints,
        judge,
        excluded,
        {task: len(digests) for task, digests in used.items()},
        {task: len(by_task[task]) for task in used},
        done=done,
        spent_usd=logged.spent_usd,
        perhaps_paid_usd=logged.perhaps_paid_usd,
        cut_off=len(logged.cut_off),
        kept=len(logged.answered),
        incumbent=_most_often(foretold.values()),
    )


def _most_often(foretold: Iterable[Foretold]) -> str | None:
    counted = Counter(told.incumbent for told in foretold if told.incumbent is not None)
    return max(counted, key=lambda name: counted[name], default=None)


def _chosen(
    own: Sequence[ProfilePrompt],
    foretold: Mapping[str, Foretold],
    endpoint: Endpoint,
    per_cell: int,
    logged: Logged,
) -> list[ProfilePrompt]:
    """Return the prompts of a task that an endpoint gets."""
    eligible = [p for p in own[:per_cell] if endpoint.id not in foretold[p.digest].exclusions]
    lost = sum((p.digest, endpoint.id) in logged.cut_off for p in eligible)
    kept = [p for p in eligible if (p.digest, endpoint.id) not in logged.cut_off]
    for prompt in own[per_cell:]:
        if not lost:
            break
        cell = prompt.digest, endpoint.id
        if cell not in logged.cut_off and endpoint.id not in foretold[prompt.digest].exclusions:
            kept.append(prompt)
            lost -= 1
    return kept


def _reasons(
    prompts: Sequence[ProfilePrompt], foretold: Mapping[str, Foretold], endpoint: Endpoint
) -> Counter[str]:
    found = (foretold[prompt.digest].exclusions.get(endpoint.id) for prompt in prompts)
    return Counter(reason for reason in found if reason is not None)


def _ask(
    turn: int,
    prompt: ProfilePrompt,
    task: str,
    endpoint: Endpoint,
    judge: Endpoint | None,
    at_s: float,
) -> Ask:
    tokens_in, tokens_out = size_of(prompt.body)
    usd = estimated_usd(endpoint, tokens_in, tokens_out, at_s=at_s)
    judge_usd = 0.0
    if judge is not None and prompt.grader is None:
        judge_usd = judging_usd(judge, prompt.body, at_s=at_s)
    return Ask(turn, prompt, task, endpoint, usd, judge_usd)


JUDGE_TOKENS_IN, JUDGE_TOKENS_OUT = 250, 200
"""Of what a judge is told beside prompt and answer, and of its answer."""


def judging_usd(judge: Endpoint, body: dict[str, Any], *, at_s: float) -> float:
    """Return what it costs to have an answer judged, at a guess."""
    tokens_in, tokens_out = size_of(body)
    read = tokens_in + tokens_out + JUDGE_TOKENS_IN
    return estimated_usd(judge, read, JUDGE_TOKENS_OUT, at_s=at_s) or 0.0


def enough_usd(
    left: Collection[Ask], spent_usd: float, answer_usd: Mapping[str, float], *, n_each: int
) -> float:
    """Return a limit under which each cell gets so many answers, at a guess; rounded up.

    Args:
        left: what was not sent.
        answer_usd: what answers of endpoints cost so far, on average, where any came.
        n_each: of a task at an endpoint; where they have as many, all that is left counts.
    """
    # A turn more than that: nobody waits for the last one of a turn before the next is begun.
    due = [ask for ask in left if ask.turn <= n_each] or left
    others = max(answer_usd.values(), default=0.0)  # whoever did not answer yet may cost as much
    each = (max(ask.reserved_usd, answer_usd.get(ask.endpoint.id, others)) for ask in due)
    return rounded_up(spent_usd + sum(each))


def rounded_up(usd: float) -> float:
    """Return a sum of two digits that is no less."""
    if usd <= 0:
        return 0.0
    unit = 10.0 ** (floor(log10(usd)) - 1)
    return float(f"{ceil(usd / unit) * unit:.12g}")


def most_at_once(endpoint: Endpoint) -> int:
    """Return how many calls an endpoint has under way at most."""
    return min(endpoint.limits.max_in_flight or MOST_AT_ONCE, MOST_AT_ONCE)


def place_of(endpoint: Endpoint) -> str:
    """Return where an endpoint is, as far as that was said."""
    terms = endpoint.terms
    said = [endpoint.provider, terms.region, terms.jurisdiction, terms.zone]
    return ", ".join(dict.fromkeys(each for each in said if each)) or "place not said"


def fair(asks: Collection[Ask], under_way: Collection[Ask]) -> int:
    """Return the last turn that may begin: nobody is more than one turn ahead."""
    turns = [ask.turn for ask in (*asks, *under_way)]
    return min(turns, default=0) + 1
