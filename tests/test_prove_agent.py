"""The proof of `agent` proves something: its caches are true, and what moves is noticed."""

from __future__ import annotations

import json
from decimal import Decimal
from itertools import pairwise
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
import structlog

from scripts.proofs import agent
from scripts.proofs.agent import AgentSettings, prove_agent
from scripts.proofs.agent_hosts import BETTER, PRICES, WORSE
from scripts.proofs.agent_play import (
    SURE_S,
    AgentPlay,
    AgentSabotage,
    CountedCall,
    UnitKey,
    fates_of,
)
from scripts.proofs.agent_talk import CODER, TITLES, calls_of
from scripts.proofs.agent_world import KNOWN_FROM_S, SESSION_CALLS, due_calls
from scripts.proofs.prompt_caches import (
    KEPT_S,
    LEAST_TOKENS,
    CachedPrompt,
    PromptCaches,
    TokenPrices,
    parts_of,
)
from scripts.proofs.steady_units import ENDINGS, SteadyCall
from scripts.proofs.told_figures import tell_figures

Parts = list[tuple[bytes, int]]


def cached_by_hand(earlier: list[tuple[float, Parts]], parts: Parts, now_s: float) -> int:
    """The longest beginning that some prompt of the last five minutes has as well."""
    best = 0
    for n in range(1, len(parts) + 1):
        tokens = sum(each for _, each in parts[:n])
        known = any(p[:n] == parts[:n] and now_s - at_s <= KEPT_S for at_s, p in earlier)
        if known and tokens >= LEAST_TOKENS:
            best = tokens
    return best


def test_caches_know_the_longest_beginning_of_the_last_five_minutes() -> None:
    random, caches, now_s = Random(0), PromptCaches(), 0.0
    earlier: list[tuple[float, Parts]] = []
    hits = 0
    for _ in range(400):
        now_s += random.uniform(0, 90)
        told = [random.choice("ab") for _ in range(random.randrange(1, 6))]
        parts = [(one.encode(), 400 if one == "a" else 700) for one in told]
        expected = cached_by_hand(earlier, parts, now_s)

        assert caches.take(parts, now_s) == CachedPrompt(sum(n for _, n in parts), expected)
        earlier.append((now_s, parts))
        hits += expected > 0
    assert 100 < hits < 400


def test_where_a_client_wants_it_kept_makes_no_difference_to_what_is_cached() -> None:
    block = {"type": "text", "text": "said"}
    marked = {**block, "cache_control": {"type": "ephemeral"}}

    plain, other = (
        list(parts_of({"messages": [{"role": "user", "content": [one]}]}))
        for one in (block, marked)
    )
    assert plain == other


def test_an_answer_costs_what_its_tokens_do() -> None:
    prices = TokenPrices(Decimal(3), Decimal("0.3"), Decimal("3.75"), Decimal(15))
    prompt = CachedPrompt(10_000, 6_000)

    assert prices.cost_usd(prompt, written=0, tokens_out=100) == Decimal("0.0153")
    assert prices.cost_usd(prompt, written=4_000, tokens_out=100) == Decimal("0.0183")


@pytest.mark.parametrize("number", [0, 1])
def test_a_session_grows_turn_by_turn_and_asks_for_titles_beside_it(number: int) -> None:
    calls = list(calls_of(number, Random(3)))

    assert len(calls) == SESSION_CALLS
    assert [call.role for call in calls].count(TITLES) == 3
    bodies = [json.loads(call.request.body) for call in calls if call.role == CODER]
    assert all(body["tools"] == bodies[0]["tools"] for body in bodies)
    for before, after in pairwise([list(parts_of(body)) for body in bodies]):
        assert after[: len(before)] == before
        assert len(after) == len(before) + 2
    named = {"x-claude-code-session-id", "session-id"} & set(calls[0].request.headers)
    assert len(named) == 1


def test_calls_come_in_the_order_of_their_times() -> None:
    times = [call.at_s for call in due_calls(5, 0, users=3)]

    assert times == sorted(times)
    assert len(times) > 5 * SESSION_CALLS


def counted(at_s: float, endpoint: str, reason: str = "best so far", cached: int = 0) -> Any:
    call = SteadyCall(0, at_s, at_s, endpoint, "code", reason)
    return CountedCall(call, CachedPrompt(100_000, cached))


def fates(**units: list[Any]) -> dict[str, int]:
    named = {UnitKey("session" if "s" in n else "user", n, r): c for (n, r), c in _named(units)}
    return fates_of(cast(AgentPlay, SimpleNamespace(units=named)))


def _named(units: dict[str, list[Any]]) -> list[tuple[tuple[str, str], list[Any]]]:
    return [((name, CODER if "s" in name else ""), calls) for name, calls in units.items()]


def test_fates_tell_who_stayed_for_the_cache_and_who_moved() -> None:
    early, late = KNOWN_FROM_S - 60, SURE_S + 60
    much = [counted(early, WORSE, cached=90_000), counted(late, WORSE, cached=90_000)]
    little = [counted(early, WORSE), counted(late, WORSE)]
    moved = [counted(early, WORSE), counted(late, BETTER, ENDINGS[0])]
    freed = [counted(early, WORSE), counted(late, BETTER, ENDINGS[1])]
    better = [counted(early, BETTER), counted(late, BETTER)]

    found = fates(s1=much, s2=little, s3=moved, s4=better, u1=freed, u2=little)

    assert found == {
        "gain_coder": 1,
        "gain_titles": 0,
        "dominated": 1,
        "stayed_for_cache": 1,
        "stayed": 1,
        "kept": 1,
    }
    lost = float(90_000 * (PRICES.written - PRICES.cached)) / 1e6
    assert lost > 0.3  # far above what one call would gain


def test_some_sessions_stay_where_they_began_and_their_caches_are_worth_something() -> None:
    logs = structlog.get_config()
    figures = prove_agent(AgentSettings(4))

    assert structlog.get_config() == logs
    assert (figures["faults"], figures["unanswered"], figures["shown"]) == (0, 0, [])
    assert figures["cache_usd_a_session"] > 0
    assert figures["cached"] > figures["cached_anew"]
    assert figures["changes_anew"] > 10


@pytest.mark.parametrize("kind", list(AgentSabotage))
def test_sessions_that_move_on_purpose_are_noticed(kind: AgentSabotage) -> None:
    assert prove_agent(AgentSettings(6, sabotage=kind))["faults"] > 0


def test_a_fault_or_nothing_to_find_fails_the_proof() -> None:
    figures: dict[str, Any] = {
        "faults": 0,
        "unanswered": 0,
        "changes": {"failure": 1},
        "changes_anew": 1,
        "cache_usd_a_session": 0.1,
        "draws_of_the_worse": {
            "gain_coder": 1,
            "dominated": 1,
            "stayed_for_cache": 1,
            "kept": 0,
        },
    }

    assert told(agent, {**figures, "shown": []}, as_json=True) == 0
    assert told(agent, {**figures, "shown": [], "faults": 1}, as_json=True) == 1
    assert told(agent, {**figures, "shown": [], "cache_usd_a_session": 0}, as_json=True) == 1


def told(proof: Any, figures: dict[str, Any], *, as_json: bool) -> int:
    return tell_figures(figures, proof.missing_in(figures), as_json=as_json)
