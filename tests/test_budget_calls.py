"""Calls under budgets: what is reserved, refused, done instead, settled and written down."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import anthropic
import httpx
import numpy as np
import openai
import pytest
from conftest import SHARDS, Provider, Reply, Sidecar, answer, chunks, endpoint, listening, serving

from telemetry import events, frames, keys
from telemetry.budget_accounts import BudgetAccounts, BudgetPeriod
from telemetry.budget_layout import SPEND_RECORD
from telemetry.embedded import PID_FILE, PrivateServer
from telemetry.events import Kind
from telemetry.store import Address, connect

pytestmark = pytest.mark.usefixtures("store")
PINNED = {"default": {"mode": "pinned", "endpoint": "a"}}
ONE_CALL_NANO = 10 * 1000 + 5 * 2000
"""What the provider's usual answer costs: 10 tokens in, 5 out."""


@contextmanager
def budgeted(
    provider: Provider,
    state_dir: Path,
    address: Address,
    *endpoints: dict[str, Any],
    apps: Any = None,
    **budgets: dict[str, Any],
) -> Iterator[Sidecar]:
    value = {
        "endpoints": list(endpoints) or [endpoint(provider, "a")],
        "apps": apps or PINNED,
        "budgets": {name: {"per": "day", **said} for name, said in budgets.items()},
    }
    with serving(value, state_dir, address) as sidecar:
        yield sidecar


Under = Callable[..., Any]


@pytest.fixture
def under(provider: Provider, state_dir: Path, address: Address) -> Under:
    return lambda *endpoints, **more: budgeted(provider, state_dir, address, *endpoints, **more)


def period_of(sidecar: Sidecar) -> BudgetPeriod:
    (claim,) = sidecar.app.allowances.active()
    return claim.account


def spends(sidecar: Sidecar, address: Address) -> list[list[tuple[int, bool]]]:
    """What each spend record says, in the order of the journal; outcomes are ()."""
    found = []
    with closing(connect(address)) as client:
        for shard in range(SHARDS):
            for _, entry in client.xrange(keys.stream(shard)):
                body = frames.unpack(entry[b"f"]).body
                for start in range(0, len(body), events.RECORD_SIZE):
                    one = body[start : start + events.RECORD_SIZE]
                    if one[0] == Kind.BUDGET_SPEND:
                        (read,) = np.frombuffer(one, dtype=SPEND_RECORD)
                        assert bytes(read["holder"]) == sidecar.app.writer.producer
                        rows = read["spends"][: read["n"]]
                        found.append([(int(r["amount"]), bool(r["is_call"])) for r in rows])
                    elif one[0] == Kind.OUTCOME:
                        found.append([])
    return found


def sent(sidecar: Sidecar, address: Address, n: int) -> list[list[tuple[int, bool]]]:
    sidecar.until(lambda: len(spends(sidecar, address)) >= n)
    return spends(sidecar, address)


def came_to(rows: list[list[tuple[int, bool]]]) -> tuple[int, int]:
    """What records add up to in the one budget that there is, and how many calls that were."""
    each = [one[0] for one in rows if one]
    return sum(amount for amount, _ in each), sum(is_call for _, is_call in each)


def settled(sidecar: Sidecar) -> int:
    """What all calls came to in the one budget that there is."""
    (claim,) = sidecar.app.allowances.active()
    standing = sidecar.app.allowances.standing(claim)
    reserved = sum(a.allowance.reserved for a in sidecar.app.allowances._held.live.values())
    assert reserved == 0, "something is reserved that nobody will settle"
    return standing.spent


# -- what is reserved and settled ---------------------------------------------------------------


@pytest.mark.parametrize("is_hard", [True, False])
def test_a_call_is_settled_and_written_down_before_its_outcome(
    under: Under, address: Address, is_hard: bool
) -> None:
    with under(all={"usd": 1, "hard": is_hard}) as sidecar:
        assert sidecar.chat(max_tokens=100).status_code == 200

        *begun, end, outcome = sent(sidecar, address, 2 + is_hard)
        most = begun[0][0][0] if is_hard else 0  # what it may have come to
        assert (len(begun), end, outcome) == (is_hard, [(ONE_CALL_NANO - most, True)], [])
        assert most == 0 or most > 100 * 2000 + 10 * 1000
        assert settled(sidecar) == ONE_CALL_NANO


@pytest.mark.parametrize(("unit", "amount"), [("tokens", 15), ("calls", 1), ("usd", ONE_CALL_NANO)])
def test_each_unit_counts_what_it_says(
    under: Under, address: Address, unit: str, amount: int
) -> None:
    with under(all={unit: 5000, "hard": True}) as sidecar:
        for _ in range(3):
            assert sidecar.chat(max_tokens=100).status_code == 200

        assert settled(sidecar) == 3 * amount
        assert came_to(sent(sidecar, address, 9)) == (3 * amount, 3)


def test_what_is_left_at_the_end_goes_back_to_the_account(
    under: Under, address: Address, client: Any
) -> None:
    with under(all={"usd": 1, "hard": True}) as sidecar:
        sidecar.chat(max_tokens=100)
        period = period_of(sidecar)

    assert BudgetAccounts(client).read(period).debited == ONE_CALL_NANO


def test_a_hard_budget_asks_nobody_for_a_call_that_may_come_to_more_than_is_left(
    under: Under, provider: Provider
) -> None:
    with under(all={"usd": 0.01, "hard": True}) as sidecar:
        assert sidecar.chat(max_tokens=1000).status_code == 200  # .002 USD out
        refused = sidecar.chat(max_tokens=5000)

        assert (refused.status_code, len(provider.calls)) == (402, 1)
        assert settled(sidecar) == ONE_CALL_NANO
        assert sidecar.chat(max_tokens=1000).status_code == 200  # what fits still goes


def test_repeats_and_fallbacks_count_one_call_and_all_that_they_cost(
    under: Under, provider: Provider, address: Address
) -> None:
    provider.on("a", Reply(500, b'{"error": {"message": "no"}}'))
    ends = [endpoint(provider, "a"), endpoint(provider, "b")]
    apps = {"default": {"mode": "route", "strategy": "quality"}}

    with under(*ends, apps=apps, n={"calls": 2, "hard": True}) as sidecar:
        assert sidecar.chat().headers["x-router-endpoint"] == "b"
        assert settled(sidecar) == 1
        assert len(provider.calls) > 1

        assert [one for one in sent(sidecar, address, 5) if one] == [[(1, False)], [(0, True)]]


def test_an_attempt_that_was_never_sent_counts_no_call(under: Under, provider: Provider) -> None:
    gone = endpoint(provider, "a", base_url="http://127.0.0.1:9/v1")

    with under(gone, n={"calls": 5, "hard": True}) as sidecar:
        assert sidecar.chat().status_code == 503
        assert settled(sidecar) == 0


def test_whoever_leaves_has_its_call_settled(
    under: Under, provider: Provider, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=5))

    with under(all={"tokens": 100_000, "hard": True}) as sidecar:
        with pytest.raises(httpx.ReadTimeout):
            sidecar.http.post("/v1/chat/completions", json=HELLO, timeout=0.3)
        begun, *_ = rows = sent(sidecar, address, 3)

        assert begun[0][0] == MOST_TOKENS  # nobody tells what it used
        assert came_to(rows) == (MOST_TOKENS, 1)
        assert settled(sidecar) == MOST_TOKENS


def test_of_a_soft_budget_what_nobody_tells_is_an_estimate(
    under: Under, provider: Provider, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=5))

    with under(all={"tokens": 100_000}) as sidecar:
        with pytest.raises(httpx.ReadTimeout):
            sidecar.http.post("/v1/chat/completions", json=HELLO, timeout=0.3)

        amount, n_calls = came_to(sent(sidecar, address, 2))
        assert 0 < amount < 50
        assert (settled(sidecar), n_calls) == (amount, 1)


@pytest.mark.parametrize("how", ["whole", "cut", "left", "unread"])
def test_however_a_stream_ends_nothing_stays_reserved(
    under: Under, provider: Provider, address: Address, how: str
) -> None:
    pieces = chunks("hel", "lo", usage=True)
    cut = {"chunks": pieces[:2], "cut": True}
    slow = {"chunks": pieces, "chunk_delay_s": 0.3}
    coded = {"body": b"?", "headers": {"content-encoding": "odd"}}
    whole = {"chunks": pieces}
    kinds: dict[str, dict[str, Any]] = {"whole": whole, "cut": cut, "left": slow, "unread": coded}
    provider.on("a", Reply(**kinds[how]))

    with under(all={"tokens": 100_000, "hard": True}) as sidecar:
        with (
            suppress(httpx.HTTPError),
            sidecar.http.stream("POST", PATH, json={**HELLO, "stream": True}) as answer,
        ):
            for n, _ in enumerate(answer.iter_raw()):
                if how == "left" and n:
                    break
        most = MOST_TOKENS + len(b',"stream":true')

        assert came_to(sent(sidecar, address, 3)) == (15 if how == "whole" else most, 1)
        assert settled(sidecar) == (15 if how == "whole" else most)


PATH = "/v1/chat/completions"
HELLO = {"model": "auto", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
MOST_TOKENS = len(json.dumps(HELLO, separators=(",", ":"))) + 128 + 100
"""Of one attempt: a token a byte, what is put around it, and all that may be written."""


@pytest.mark.parametrize(
    ("reply", "is_billed"),
    [
        (Reply(502, b"bad gateway"), True),
        (Reply(503, b"{}"), False),
        (Reply(429, b"{}"), False),
        (Reply(400, b"{}"), False),
        (Reply(200, b"{}"), True),
        (Reply(200, answer()[:-20], cut=True), True),
        (Reply(200, json.dumps({**json.loads(answer()), "usage": None}).encode()), True),
    ],
)
def test_what_was_sent_and_not_plainly_refused_comes_to_all_that_was_reserved(
    under: Under, provider: Provider, reply: Reply, is_billed: bool
) -> None:
    provider.on("a", reply)

    with under(all={"tokens": 100_000, "hard": True}) as sidecar:
        with suppress(httpx.HTTPError):
            sidecar.http.post(PATH, json=HELLO)

        assert settled(sidecar) == len(provider.calls) * MOST_TOKENS * is_billed
        assert provider.calls


def test_a_connection_that_is_lost_before_an_answer_comes_to_all_that_was_reserved(
    under: Under, provider: Provider
) -> None:
    asked: list[bytes] = []

    def hang_up(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))

    with listening(hang_up) as url:
        one = endpoint(provider, "a", base_url=url)
        with under(one, all={"tokens": 100_000, "hard": True}) as sidecar:
            assert sidecar.http.post(PATH, json=HELLO).status_code == 503

            assert settled(sidecar) == len(asked) * MOST_TOKENS > 0


def test_of_a_message_that_was_cut_it_is_known_what_was_read(
    under: Under, provider: Provider
) -> None:
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 9}}}
    begin = b"event: message_start\ndata: " + json.dumps(start).encode() + b"\n\n"
    provider.on("a", Reply(chunks=[begin], cut=True))
    one = endpoint(provider, "a", dialects=["messages"])

    with under(one, all={"tokens": 100_000, "hard": True}) as sidecar:
        with suppress(httpx.HTTPError):
            sidecar.http.post("/v1/messages", json={**HELLO, "stream": True})

        assert settled(sidecar) == len(provider.calls) * (9 + 100)


def test_whoever_is_killed_has_its_calls_under_way_in_the_journal(
    under: Under, provider: Provider, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=1.5))

    with under(all={"tokens": 100_000, "hard": True}) as sidecar, ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(sidecar.http.post, PATH, json=HELLO) for _ in range(3)]

        under_way = sent(sidecar, address, 3)
        assert under_way == [[(MOST_TOKENS, False)]] * 3
        assert [call.result().status_code for call in calls] == [200] * 3
        assert came_to(sent(sidecar, address, 9)) == (45, 3)


def test_a_second_start_reserves_like_a_first_and_the_loser_is_settled(
    under: Under, provider: Provider, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=30))
    ends = [endpoint(provider, "a"), endpoint(provider, "b")]
    beside = {"beside_s": {"first_token": 0.3, "answer": 0.3}}
    apps = {"default": {"mode": "route", "strategy": "quality", "timeouts": beside}}
    most = 128 + 150 + 100  # of one attempt, rather more

    with under(*ends, apps=apps, all={"tokens": 2 * most, "hard": True}) as sidecar:
        found = sidecar.http.post("/v1/chat/completions", json=HELLO, timeout=60)

        assert found.headers["x-router-endpoint"] == "b"
        # What the loser used, nobody tells.
        assert came_to(sent(sidecar, address, 6)) == (15 + MOST_TOKENS, 1)
        assert settled(sidecar) == 15 + MOST_TOKENS


def test_a_second_start_that_does_not_fit_is_not_made(under: Under, provider: Provider) -> None:
    provider.on("a", Reply(body=answer(), delay_s=1.5))
    ends = [endpoint(provider, "a"), endpoint(provider, "b")]
    beside = {"beside_s": {"first_token": 0.3, "answer": 0.3}}
    apps = {"default": {"mode": "route", "strategy": "quality", "timeouts": beside}}

    with under(*ends, apps=apps, all={"calls": 1, "hard": True}) as sidecar:
        found = sidecar.http.post("/v1/chat/completions", json=HELLO, timeout=60)

        assert found.headers["x-router-endpoint"] == "a"
        assert (provider.hosts(), settled(sidecar)) == (["a"], 1)
        assert "b" not in sidecar.app.metrics.second_starts


# -- refusals -----------------------------------------------------------------------------------


def test_a_refusal_says_which_budget_how_much_of_it_and_until_when(under: Under) -> None:
    with under(team={"app": "default", "tokens": 50, "hard": True}) as sidecar:
        refused = sidecar.chat(max_tokens=100)

    error = refused.json()["error"]
    assert (refused.status_code, error["code"], error["type"]) == (
        402,
        "budget_spent",
        "insufficient_quota",
    )
    told = error["budget"]
    assert (told["budget"], told["scope"]) == ("team", {"app": "default"})
    assert (told["unit"], told["limit"], told["spent"], told["left"]) == ("tokens", 50, 0, 50)
    assert told["resets_at"].endswith("T00:00:00Z")
    assert "budget team" in error["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert 0 < int(refused.headers["retry-after"]) <= 86_400


def test_a_budget_that_begins_anew_in_weeks_asks_for_no_retry(under: Under) -> None:
    with under(team={"per": "month", "tokens": 50, "hard": True}) as sidecar:
        refused = sidecar.chat(max_tokens=100)

    assert refused.status_code == 402
    left_s = _until(refused.json()["error"]["budget"]["resets_at"]) <= 86_400
    assert ("retry-after" in refused.headers) == left_s


def _until(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() - time.time()


def test_real_clients_see_a_status_error_and_do_not_ask_again(
    under: Under, provider: Provider
) -> None:
    speaks = endpoint(provider, "a", dialects=["chat", "responses", "messages", "embeddings"])

    with under(speaks, team={"tokens": 50, "hard": True}) as sidecar:
        with openai.OpenAI(base_url=f"{sidecar.url}/v1", api_key="k", max_retries=3) as gpt:
            for call in (
                lambda: gpt.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": "x"}], max_tokens=99
                ),
                lambda: gpt.chat.completions.create(
                    model="auto",
                    messages=[{"role": "user", "content": "x"}],
                    max_tokens=99,
                    stream=True,
                ),
                lambda: gpt.responses.create(model="auto", input="x", max_output_tokens=99),
                lambda: gpt.embeddings.create(model="a", input="x"),
            ):
                with pytest.raises(openai.APIStatusError) as refused:
                    call()
                assert refused.value.status_code == 402
                assert refused.value.code == "budget_spent"
                assert refused.value.body["budget"]["limit"] == 50  # type: ignore[index]
        claude = anthropic.Anthropic(base_url=sidecar.url, api_key="k", max_retries=3)
        with claude, pytest.raises(anthropic.APIStatusError) as told:
            claude.messages.create(
                model="auto", max_tokens=99, messages=[{"role": "user", "content": "x"}]
            )
        body: Any = told.value.body
        assert (told.value.status_code, body["error"]["type"]) == (402, "billing_error")
        assert body["error"]["budget"]["budget"] == "team"

    assert provider.calls == []


@contextmanager
def silent(store: PrivateServer) -> Iterator[None]:
    """A store that answers nothing."""
    pid = int((store.directory / PID_FILE).read_text())
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_soft_budget_serves_while_the_store_is_away(under: Under, store: PrivateServer) -> None:
    with under(soft={"usd": 1}) as sidecar, silent(store):
        assert sidecar.chat(max_tokens=100).status_code == 200


def test_a_hard_budget_is_a_503_while_the_store_is_away(
    under: Under, store: PrivateServer, provider: Provider
) -> None:
    with under(hard={"app": "default", "usd": 1, "hard": True}) as sidecar, silent(store):
        began = time.monotonic()
        refused = sidecar.chat(max_tokens=100)

        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "budget_away"
        assert refused.json()["error"]["budget"] == {"budget": "hard"}
        assert refused.headers["retry-after"] == "1"
        assert time.monotonic() - began < 2
        assert provider.calls == []


# -- who may serve under a hard budget ----------------------------------------------------------


def test_endpoints_without_a_price_or_a_bound_serve_no_call_under_a_hard_budget(
    under: Under, provider: Provider
) -> None:
    unpriced = endpoint(provider, "a", prices=None)
    del unpriced["prices"]
    machine = endpoint(provider, "b", prices={"usd_per_hour": 2})
    free = endpoint(provider, "c", prices={"usd_per_hour": 0})
    apps = {"default": {"mode": "route", "strategy": "quality", "incumbent": "a"}}

    with under(unpriced, machine, free, apps=apps, all={"usd": 1, "hard": True}) as sidecar:
        shown = sidecar.http.post("/v1/router/decide", json=HELLO).json()
        found = sidecar.chat(max_tokens=100)
        pinned = sidecar.chat(model="a", max_tokens=100)

    assert shown["exclusions"] == {"a": "unpriced", "b": "unbounded: machine"}
    assert found.headers["x-router-endpoint"] == "c"
    assert pinned.status_code == 409
    assert pinned.json()["error"]["exclusions"] == {"a": "unpriced"}


SEARCH = {"tools": [{"type": "web_search"}], "max_output_tokens": 10}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"max_output_tokens": 10}, None),
        ({}, "unbounded: tokens"),
        (SEARCH, "unbounded: web_search"),
        ({"max_output_tokens": 10, "background": True}, "unbounded: background"),
    ],
)
def test_what_a_provider_does_by_itself_has_no_bound(
    under: Under, provider: Provider, more: dict[str, Any], why: str | None
) -> None:
    speaks = endpoint(provider, "a", dialects=["responses"])

    with under(speaks, all={"tokens": 10**6, "hard": True}) as sidecar:
        body = {"model": "auto", "input": "hello", **more}
        headers = {"x-router-dry-run": "1"}
        found = sidecar.http.post("/v1/responses", json=body, headers=headers).json()

    exclusions = found.get("exclusions") or found.get("error", {}).get("exclusions") or {}
    assert exclusions.get("a") == why


# -- what holds instead -------------------------------------------------------------------------


def spend_all(sidecar: Sidecar) -> None:
    """Call until a budget of one call is used up, as this process knows."""
    assert sidecar.chat().status_code == 200
    (claim,) = sidecar.app.allowances.active()
    sidecar.until(lambda: sidecar.app.allowances.is_spent(claim))


DEAR = {"input_usd_per_mtok": 50, "output_usd_per_mtok": 90}
ROUTE = {"default": {"mode": "route", "strategy": "quality"}}
CHEAPEST = {"app": "default", "calls": 1, "on_spent": "cheapest"}


def decide(sidecar: Sidecar, headers: dict[str, str] | None = None, **more: Any) -> Any:
    """A dry run."""
    return sidecar.http.post("/v1/router/decide", json={**HELLO, **more}, headers=headers).json()


def test_a_budget_that_is_used_up_has_calls_go_to_the_cheapest_and_says_so(
    under: Under, provider: Provider
) -> None:
    dear = endpoint(provider, "a", prices=DEAR)

    with under(dear, endpoint(provider, "b"), apps=ROUTE, team=CHEAPEST) as sidecar:
        first = sidecar.chat()
        spend_all(sidecar)
        second = sidecar.chat()
        shown = decide(sidecar)
        decision = second.headers["x-router-decision-id"]
        why = sidecar.http.get(f"/v1/router/decisions/{decision}").json()

    assert why["exclusions"] == {"a": "budget_spent"}
    assert "x-router-warning" not in first.headers
    assert first.headers["x-router-endpoint"] == "a"
    assert (second.status_code, second.headers["x-router-endpoint"]) == (200, "b")
    assert second.headers["x-router-strategy"] == "quality"
    assert "budget team is used up until" in second.headers["x-router-warning"]
    assert "calls go to the cheapest endpoint" in second.headers["x-router-warning"]
    assert (shown["endpoint"], shown["strategy"]) == ("b", "quality")
    assert shown["exclusions"] == {"a": "budget_spent"}
    assert (shown["note"], shown["exploring"]) == ("a budget is used up", False)
    (row,) = shown["budgets"]
    assert (row["budget"], row["limit"], row["used_up"]) == ("team", 1, True)
    assert row["on_spent"] == "cheapest"


def test_what_was_drawn_before_a_budget_was_used_up_stays_drawn(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    cheap, session = endpoint(provider, "b"), {"x-router-session-id": "s1"}
    value = {
        "endpoints": [endpoint(provider, "a", prices=DEAR), cheap],
        "apps": ROUTE,
        "budgets": {"team": {**CHEAPEST, "per": "day"}},
    }
    with serving(value, state_dir, address) as sidecar:
        before = sidecar.chat(headers=session)
        spend_all(sidecar)
        during = [sidecar.chat(headers=h) for h in (session, {"x-router-session-id": "s2"})]
    value["budgets"] = {}
    with serving(value, state_dir, address) as sidecar:
        after = sidecar.chat(headers=session)
        other = decide(sidecar, {"x-router-session-id": "s2"})

    found = [one.headers["x-router-endpoint"] for one in (before, *during, after)]
    assert found == ["a", "b", "b", "a"]
    assert (other["endpoint"], other["follows_stored_draw"]) == ("a", False)


def test_a_model_that_is_named_is_kept_at_its_cheapest_host(
    under: Under, provider: Provider
) -> None:
    hosts = [
        endpoint(provider, "a", model="m", prices=DEAR),
        endpoint(provider, "b", model="m", prices={**DEAR, "output_usd_per_mtok": 80}),
        endpoint(provider, "c", model="n"),
    ]
    with under(*hosts, apps=ROUTE, team=CHEAPEST) as sidecar:
        spend_all(sidecar)
        named, pinned = sidecar.chat(model="m"), sidecar.chat(model="a")
        shown = decide(sidecar, model="m")

    assert named.headers["x-router-endpoint"] == shown["endpoint"] == "b"
    assert "calls go to the cheapest host of their model" in named.headers["x-router-warning"]
    assert pinned.headers["x-router-endpoint"] == "a"
    assert "one endpoint alone, and stays there" in pinned.headers["x-router-warning"]


def test_the_cheapest_serves_where_nothing_is_routed_as_well(
    under: Under, provider: Provider
) -> None:
    ends = [endpoint(provider, "a", prices=DEAR), endpoint(provider, "b")]
    apps = {"default": {"mode": "observe", "strategy": "quality"}}

    with under(*ends, apps=apps, team=CHEAPEST) as sidecar:
        spend_all(sidecar)
        assert sidecar.chat(model="auto").headers["x-router-endpoint"] == "b"


def test_while_the_cheapest_rests_the_next_cheapest_serves(
    under: Under, provider: Provider
) -> None:
    provider.on("c", Reply(500, b'{"error": {"message": "no"}}'))
    less = {"input_usd_per_mtok": 0.5, "output_usd_per_mtok": 1}
    prices = {"a": DEAR, "b": None, "c": less}
    ends = [endpoint(provider, n, **({"prices": p} if p else {})) for n, p in prices.items()]

    with under(*ends, apps=ROUTE, team=CHEAPEST) as sidecar:
        spend_all(sidecar)
        assert decide(sidecar)["endpoint"] == "c"
        served = [sidecar.chat().headers.get("x-router-endpoint") for _ in range(12)]
        shown = decide(sidecar)

    assert served[-1] == "b"
    assert "a" not in served
    assert shown["exclusions"] == {"a": "budget_spent", "c": "breaker"}


def unpriced(provider: Provider, name: str) -> dict[str, Any]:
    found = endpoint(provider, name)
    del found["prices"]
    return found


def test_who_has_no_price_is_never_the_cheapest_of_money_that_is_used_up(
    under: Under, provider: Provider
) -> None:
    ends = [endpoint(provider, "a", prices=DEAR), unpriced(provider, "u"), endpoint(provider, "b")]
    budget = {"usd": 1e-6, "on_spent": "cheapest"}

    with under(*ends, apps=ROUTE, team=budget) as sidecar:
        spend_all(sidecar)
        shown, named = decide(sidecar), sidecar.chat(model="u")
        assert sidecar.chat().headers["x-router-endpoint"] == "b"

    assert shown["exclusions"] == {"a": "budget_spent", "u": "unpriced"}
    assert (named.status_code, named.json()["error"]["code"]) == (402, "budget_spent")


def test_who_has_no_price_serves_no_call_because_it_would_fit(
    under: Under, provider: Provider
) -> None:
    ends = [endpoint(provider, "a", prices=DEAR), unpriced(provider, "u")]
    with under(*ends, apps=ROUTE, all={"usd": 0.001}) as sidecar:
        named = sidecar.chat(model="u")
        found = sidecar.chat()

    assert (named.status_code, found.status_code, provider.calls) == (402, 402, [])


@pytest.mark.parametrize("how", ["hint", "model", "app"])
def test_no_budget_that_is_used_up_loosens_what_a_strategy_constrains(
    under: Under, provider: Provider, how: str
) -> None:
    dear = {"input_usd_per_mtok": 50, "output_usd_per_mtok": 90}
    own = endpoint(provider, "b", zone="local", prices=dear)
    app = {"mode": "route", "strategy": "private" if how == "app" else "quality"}
    budget = {"calls": 1, "on_spent": "cheapest"}
    said = {"headers": {"x-router-strategy": "private"}} if how == "hint" else {}
    model = "auto:private" if how == "model" else "auto"

    with under(endpoint(provider, "a"), own, apps={"default": app}, team=budget) as sidecar:
        spend_all(sidecar)
        found = sidecar.chat(model=model, **said)
        for _ in range(3):
            found = sidecar.chat(model=model, **said)

    assert found.headers["x-router-strategy"] == "private"
    assert found.headers["x-router-endpoint"] == "b"


@pytest.mark.parametrize("is_hard", [True, False])
def test_a_budget_that_is_used_up_has_calls_stay_in_the_zone_local(
    under: Under, provider: Provider, is_hard: bool
) -> None:
    free = {"input_usd_per_mtok": 0, "output_usd_per_mtok": 0}
    own = endpoint(provider, "b", zone="local", prices=free)
    apps = {"default": {"mode": "route", "strategy": "quality"}}
    budget = {"usd": ONE_CALL_NANO / 1e9, "on_spent": "local", "hard": is_hard}

    with under(endpoint(provider, "a"), own, apps=apps, team=budget) as sidecar:
        if not is_hard:
            spend_all(sidecar)
        found = sidecar.chat(max_tokens=100)
        shown = sidecar.http.post("/v1/router/decide", json=HELLO).json()

    assert (found.status_code, found.headers["x-router-endpoint"]) == (200, "b")
    if not is_hard:
        assert shown["exclusions"] == {"a": "zone"}
        assert "zone local" in found.headers["x-router-warning"]


ENDINGS = ("orders", "invoices", "sessions", "ledgers", "budgets", "parsers", "drafts", "locks")
REVIEWS = [f"Please review this diff for races and missing tests in {word}.py" for word in ENDINGS]
LETTERS = [f"Write a friendly birthday letter for my aunt who loves her {word}" for word in ENDINGS]


def test_a_call_that_a_budget_refuses_opens_no_session(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.decision.sessions.LOOK_UP_S", 5.0)
    value = {
        "endpoints": [endpoint(provider, "a")],
        "tasks": {"review": {"exemplars": REVIEWS}, "letter": {"exemplars": LETTERS}},
        "apps": {"default": {"mode": "route", "strategy": "quality", "classify": "route"}},
        "budgets": {"team": {"per": "day", "tokens": 1000, "hard": True}},
    }
    session = {"x-router-session-id": "s1"}

    with serving(value, state_dir, address) as sidecar:
        sidecar.until(lambda: sidecar.app.keeper.store_up)
        refused = sidecar.chat(text=LETTERS[0], max_tokens=5000, headers=session)
        first = sidecar.chat(text=REVIEWS[0], max_tokens=10, headers=session)

    assert (refused.status_code, first.status_code) == (402, 200)
    assert first.headers["x-router-task"] == "review"
    assert first.headers["x-router-task-found-by"] == "classifier"


def test_where_nobody_local_may_serve_a_budget_that_is_used_up_refuses(
    under: Under, provider: Provider
) -> None:
    places = endpoint(provider, "a"), endpoint(provider, "b", zone="local")
    apps = {"default": {**PINNED["default"], "endpoints": {"deny": ["b"]}}}
    with under(*places, apps=apps, team={"calls": 1, "on_spent": "local"}) as sidecar:
        spend_all(sidecar)
        refused = sidecar.chat()
        shown = sidecar.http.post("/v1/router/decide", json=HELLO)

    assert (refused.status_code, shown.status_code) == (402, 402)
    assert refused.json()["error"]["budget"]["budget"] == "team"


def test_in_off_no_budget_refuses_and_what_calls_come_to_is_written_down(
    under: Under, address: Address, client: Any
) -> None:
    with under(team={"tokens": 20, "hard": True}) as sidecar:
        assert sidecar.chat(max_tokens=100).status_code == 402
        (sidecar.state_dir / "off").touch()
        sidecar.until(lambda: sidecar.app.keeper.off)
        for _ in range(3):
            assert sidecar.chat(max_tokens=100).status_code == 200

        assert [one for one in sent(sidecar, address, 6) if one] == [[(15, True)]] * 3


# -- what is passed on --------------------------------------------------------------------------


@contextmanager
def passing(
    provider: Provider, state_dir: Path, address: Address, **budgets: dict[str, Any]
) -> Iterator[Sidecar]:
    value = {
        "providers": {"p": {"base_url": provider.url("p"), "passthrough": True}},
        "endpoints": [
            {
                "id": "a",
                "model": "m",
                "provider": "p",
                "prices": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
            }
        ],
        "apps": {"default": {"mode": "route", "strategy": "quality"}},
        "budgets": {name: {"per": "day", **said} for name, said in budgets.items()},
    }
    with serving(value, state_dir, address) as sidecar:
        yield sidecar


def test_what_is_passed_on_counts_in_budgets_and_what_costs_nothing_does_not(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with passing(provider, state_dir, address, all={"tokens": 10_000}) as sidecar:
        assert sidecar.chat(model="other").status_code == 200
        assert sidecar.http.get("/v1/files").status_code == 200
        assert sidecar.http.delete("/v1/files/f").status_code == 200
        assert sidecar.http.post("/v1/files", content=b"{}").status_code == 200

        assert settled(sidecar) == 15
        assert [one for one in sent(sidecar, address, 5) if one] == [[(15, True)]]


def test_a_hard_budget_in_money_passes_on_nothing_that_nobody_knows_the_price_of(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with passing(provider, state_dir, address, all={"usd": 1, "hard": True}) as sidecar:
        unknown = sidecar.chat(model="other", max_tokens=10)
        images = sidecar.http.post("/v1/images/generations", json={"model": "other"})
        listed = sidecar.http.get("/v1/files")

        assert (unknown.status_code, images.status_code, listed.status_code) == (409, 409, 200)
        assert unknown.json()["error"]["exclusions"] == {"p": "unpriced"}
        assert [call.method for call in provider.calls] == ["GET"]


def test_a_soft_budget_in_money_that_is_used_up_passes_on_nothing_without_a_price(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with passing(provider, state_dir, address, all={"usd": 1e-6}) as sidecar:
        assert sidecar.chat(model="other").status_code == 402
        assert provider.calls == []


def test_what_is_passed_on_goes_on_as_it_is_where_a_budget_says_cheapest(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    budget = {"calls": 1, "on_spent": "cheapest"}
    with passing(provider, state_dir, address, all=budget) as sidecar:
        spend_all(sidecar)
        found = sidecar.chat(model="other")

    assert found.status_code == 200
    assert found.headers["x-router-warning"].endswith("what is passed on goes on as it is")


def test_a_request_that_is_passed_on_is_refused_where_it_does_not_fit(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with passing(provider, state_dir, address, n={"calls": 1, "hard": True}) as sidecar:
        assert sidecar.chat(model="other").status_code == 200
        refused = sidecar.chat(model="other")
        dry = sidecar.chat(model="other", headers={"x-router-dry-run": "1"})

        assert (refused.status_code, len(provider.calls)) == (402, 1)
        assert refused.json()["error"]["budget"]["may_come_to"] == 1
        assert dry.status_code == 402
        assert dry.json() == refused.json()


def test_many_calls_at_once_never_come_to_more_than_a_hard_budget(
    under: Under, provider: Provider
) -> None:
    provider.on("a", lambda _: Reply(body=answer(), delay_s=0.01))

    with under(n={"calls": 20, "hard": True}) as sidecar, ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda _: sidecar.chat().status_code, range(60)))

        assert (codes.count(200), codes.count(402)) == (20, 40)
        assert (settled(sidecar), len(provider.calls)) == (20, 20)


def test_many_calls_of_unlike_bounds_never_come_to_more_money_than_there_is(
    under: Under, provider: Provider
) -> None:
    provider.on("a", lambda _: Reply(body=answer(), delay_s=0.01))
    limit = 1_000_000

    with under(all={"usd": limit / 1e9, "hard": True}) as sidecar, ThreadPoolExecutor(16) as pool:
        asked = [10 * (1 + i % 20) for i in range(120)]
        codes = list(pool.map(lambda most: sidecar.chat(max_tokens=most).status_code, asked))

        assert set(codes) == {200, 402}
        assert settled(sidecar) == codes.count(200) * ONE_CALL_NANO <= limit
        while sidecar.chat(max_tokens=10).status_code == 200:
            pass  # what fits still goes
        assert limit - settled(sidecar) < 300_000  # less than the least call may come to


def test_what_is_passed_on_and_nobody_tells_of_comes_to_all_that_was_reserved(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("p", Reply(body=answer(), delay_s=5))
    body = {**HELLO, "model": "unlisted"}
    most = len(json.dumps(body, separators=(",", ":"))) + 128 + 100

    with passing(provider, state_dir, address, all={"tokens": 100_000, "hard": True}) as sidecar:
        with pytest.raises(httpx.ReadTimeout):
            sidecar.http.post(PATH, json=body, timeout=0.3)

        assert came_to(sent(sidecar, address, 3)) == (most, 1)
        assert settled(sidecar) == most
