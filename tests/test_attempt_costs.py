"""What is booked of an attempt's cost: whose price, of which day and tier; what nobody told of.

Examples are those of the providers' own documentation, under the address that stands beside them.
"""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from conftest import SHARDS, Provider, Reply, answer, chunks, endpoint, event, serving

from bandit.families import U
from router.beliefs.names import Names
from router.config.compiled import compile_text
from router.dispatch.copied import MAX_READ_BYTES, AnswerCopy, answered_in
from router.dispatch.costs import settle_price
from router.dispatch.ending import Ending
from router.dispatch.passed_costs import settle_passed
from router.dispatch.passed_models import PassedModels
from router.dispatch.records import outcome
from router.endpoints.default_prices import default_prices
from router.endpoints.rates import PriceList
from telemetry import decoding, frames, keys
from telemetry.events import Flag, PriceSource, Result, ServiceTier
from telemetry.layouts import RECORD
from telemetry.ledger_rows import LedgerColumn, LedgerTable
from telemetry.store import Address, connect
from telemetry.tiers import tier_named
from telemetry.tokens import Token
from telemetry.wire.told import read_tail
from telemetry.wire.usage import usage_of
from workers.folding.spending import spent_by
from workers.folding.terms import outcome_terms

USAGE = 1
"""The place of usage among what outcomes add, of calls in no role."""
HELLO = {"messages": [{"role": "user", "content": "hello"}]}
NOW_S = datetime(2026, 11, 30, tzinfo=UTC).timestamp()
PLAIN = {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2}


def prices(value: Any) -> PriceList:
    one = {"id": "a", "model": "m", "base_url": "http://h/v1", "prices": value}
    text = yaml.safe_dump({"endpoints": [one]})
    found = compile_text(text, file="t.yaml").catalog.endpoints[0].prices
    assert found is not None
    return found


def settled(
    usage: Any, by: PriceList | None, *, at: str = "2026-11-30T12:00", **more: Any
) -> Ending:
    ended = Ending(usage=usage_of(usage, more.get("tier")), reported_nano=more.get("reported"))
    at_s = datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()
    tier = ended.usage.tier if ended.usage is not None else None
    settle_price(ended, by, at_s=at_s, tier=tier)
    return ended


def records(address: Address) -> np.ndarray:
    """All records in the streams; nobody reads them here."""
    client, found = connect(address), []
    for shard in range(SHARDS):
        for _, entry in client.xrange(keys.stream(shard)):
            found.append(decoding.decode(frames.unpack(entry[b"f"]).body)[0])
    client.close()
    return np.concatenate(found) if found else np.empty(0, dtype=RECORD)


def booked(sidecar: Any, address: Address, n: int) -> dict[str, Any]:
    """The last of `n` records of each endpoint."""
    sidecar.until(lambda: sidecar.app.writer.counters.sent >= n)
    found = records(address)
    assert len(found) == n
    listed = sidecar.app.keeper.current.configuration.catalog.by_digest
    return {listed[int(one["token"]["executed"])].id: one for one in found}


# -- prices -------------------------------------------------------------------------------------


def test_a_price_changed_on_the_15th_counts_from_the_15th_in_utc() -> None:
    dear = {"from": "2026-11-15", "input_usd_per_mtok": 3, "output_usd_per_mtok": 6}
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    by = prices([PLAIN, dear])

    before = settled(usage, by, at="2026-11-14T23:59:59.999")
    after = settled(usage, by, at="2026-11-15T00:00")

    assert (before.cost_nano, before.price_day) == (12_000, 0)
    assert (after.cost_nano, after.price_day) == (36_000, 20_772)
    assert np.datetime64("2026-11-15").astype(int) == 20_772


SONNET = {
    "input_usd_per_mtok": 3,
    "output_usd_per_mtok": 15,
    "cached_input_usd_per_mtok": 0.3,
    "cache_write_usd_per_mtok": 3.75,
    "cache_write_1h_usd_per_mtok": 6,
}
"""platform.claude.com/docs/en/build-with-claude/prompt-caching, the table of prices."""
WRITTEN = {"cache_creation_input_tokens": 188_086, "cache_read_input_tokens": 0}
READ = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 188_086}
PRIDE = {"input_tokens": 21, "output_tokens": 393}
"""The same page: the whole of a novel in the prompt, twice."""


@pytest.mark.parametrize(
    ("usage", "rates", "nano"),
    [
        # docs.x.ai/developers/advanced-api-usage/prompt-caching/usage-and-pricing
        (
            {
                "prompt_tokens": 125,
                "completion_tokens": 48,
                "total_tokens": 173,
                "prompt_tokens_details": {"text_tokens": 125, "cached_tokens": 98},
                "completion_tokens_details": {"reasoning_tokens": 0},
            },
            {**PLAIN, "cached_input_usd_per_mtok": 0.25},
            27 * 1000 + 98 * 250 + 48 * 2000,
        ),
        ({**PRIDE, **WRITTEN}, SONNET, 21 * 3000 + 188_086 * 3750 + 393 * 15_000),
        ({**PRIDE, **READ}, SONNET, 21 * 3000 + 188_086 * 300 + 393 * 15_000),
        (
            {
                **PRIDE,
                **WRITTEN,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 88_086,
                    "ephemeral_1h_input_tokens": 100_000,
                },
            },
            SONNET,
            21 * 3000 + 88_086 * 3750 + 100_000 * 6000 + 393 * 15_000,
        ),
        # platform.openai.com/docs/guides/reasoning
        (
            {
                "input_tokens": 75,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 1186,
                "output_tokens_details": {"reasoning_tokens": 1024},
                "total_tokens": 1261,
            },
            {**PLAIN, "reasoning_usd_per_mtok": 3},
            75 * 1000 + 162 * 2000 + 1024 * 3000,
        ),
    ],
    ids=["cached", "written", "read", "written for an hour", "reasoning"],
)
def test_each_kind_of_token_costs_what_its_provider_documents(
    usage: Any, rates: Any, nano: int
) -> None:
    found = settled(usage, prices(rates))

    assert (found.cost_nano, found.price_source) == (nano, PriceSource.OWN)


GPT_4_1 = {
    "input_usd_per_mtok": 2,
    "output_usd_per_mtok": 8,
    "cached_input_usd_per_mtok": 0.5,
    "tiers": {
        "priority": {
            "input_usd_per_mtok": 3.5,
            "output_usd_per_mtok": 14,
            "cached_input_usd_per_mtok": 0.875,
        }
    },
}
"""developers.openai.com/api/docs/pricing; of the tier openai.com/api-priority-processing."""


@pytest.mark.parametrize(
    ("tier", "nano"),
    [
        ("default", 86 * 2000 + 1920 * 500 + 300 * 8000),
        ("priority", 86 * 3500 + 1920 * 875 + 300 * 14_000),
    ],
)
def test_a_tier_costs_what_its_provider_documents(tier: str, nano: int) -> None:
    """The usage is that of the guide to prompt caching."""
    usage = {
        "prompt_tokens": 2006,
        "completion_tokens": 300,
        "total_tokens": 2306,
        "prompt_tokens_details": {"cached_tokens": 1920},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }

    assert settled(usage, prices(GPT_4_1), tier=tier).cost_nano == nano


def test_a_tier_that_served_is_booked_at_its_price_and_by_its_name() -> None:
    """developers.openai.com/api/docs/pricing: gpt-4.1, usual and priority, from 12 October on."""
    by = default_prices("https://api.openai.com/v1", "gpt-4.1")
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}

    usual = settled(usage, by, tier="default")
    quick = settled(usage, by, tier="priority")

    assert (usual.cost_nano, usual.tier) == (1000 * 2000 + 100 * 8000, ServiceTier.USUAL)
    assert (quick.cost_nano, quick.tier) == (1000 * 3500 + 100 * 14_000, ServiceTier.PRIORITY)
    assert quick.price_source is PriceSource.KNOWN
    assert quick.price_day >= np.datetime64("2026-10-12").astype(int)


@pytest.mark.parametrize(
    ("word", "tier"),
    [
        (None, ServiceTier.USUAL),
        *((word, ServiceTier.USUAL) for word in ("default", "standard", "auto", "on_demand")),
        ("flex", ServiceTier.FLEX),
        ("SERVICE_TIER_PRIORITY", ServiceTier.PRIORITY),
        ("batch", ServiceTier.BATCH),
        ("scale", ServiceTier.SCALE),
        ("something new", ServiceTier.OTHER),
    ],
)
def test_providers_words_for_their_tiers_are_known(word: str | None, tier: ServiceTier) -> None:
    assert tier_named(word) is tier


# -- the provider's own word --------------------------------------------------------------------

OPENROUTER = {
    "completion_tokens": 2,
    "completion_tokens_details": {"reasoning_tokens": 0},
    "cost": 0.95,
    "cost_details": {"upstream_inference_cost": 19},
    "prompt_tokens": 194,
    "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 100},
    "total_tokens": 196,
}
"""openrouter.ai/docs/use-cases/usage-accounting: of a call under a key of one's own."""
COUNTS = {"prompt_tokens": 194, "completion_tokens": 2}


@pytest.mark.parametrize(
    ("usage", "nano"),
    [
        (OPENROUTER, 19_950_000_000),
        ({**OPENROUTER, "cost": 19, "is_byok": False}, 19_000_000_000),
        ({**OPENROUTER, "cost_details": {"upstream_inference_cost": None}}, 950_000_000),
        # docs.x.ai/developers/cost-tracking: "cost $0.0038"
        ({**COUNTS, "cost_in_usd_ticks": 37_756_000}, 3_775_600),
        ({**COUNTS, "cost": {"input_tokens_cost": 0.001, "total_cost": 0.006}}, 6_000_000),
        ({**COUNTS, "estimated_cost": 2.4e-05}, 24_000),
        ({**COUNTS, "cost": "0.004"}, 4_000_000),
        ({**COUNTS, "cost": 0}, 0),  # free
        ({**COUNTS, "cost": 0, "is_byok": True}, None),  # nothing but the cut of who passed it on
        ({**COUNTS, "cost": "free"}, None),
        ({**COUNTS, "cost": True}, None),
        ({**COUNTS, "cost": -1}, None),
        ({**COUNTS, "cost": float("nan")}, None),
        ({**COUNTS, "cost": "nan"}, None),
        (COUNTS, None),
    ],
)
def test_what_a_provider_says_that_a_call_cost_is_read_in_each_form(
    usage: Any, nano: int | None
) -> None:
    found = usage_of(usage)

    assert found is not None
    assert found.reported_nano == nano


def test_the_providers_word_stands_beside_a_price_and_is_the_cost_where_there_is_none() -> None:
    beside, alone = settled(OPENROUTER, prices(PLAIN)), settled(OPENROUTER, None)

    assert (beside.cost_nano, beside.price_source) == (198_000, PriceSource.OWN)
    assert (alone.cost_nano, alone.price_source) == (19_950_000_000, PriceSource.PROVIDER)
    assert beside.reported_nano == alone.reported_nano == 19_950_000_000


def test_a_call_that_its_provider_calls_free_has_a_cost_of_0_and_not_none() -> None:
    free = {**COUNTS, "cost": 0}
    alone, beside = settled(free, None), settled(free, prices(PLAIN))

    assert (alone.cost_nano, alone.price_source) == (0, PriceSource.PROVIDER)
    assert (beside.cost_nano, beside.reported_nano) == (198_000, 0)
    for ended in (alone, beside):
        record = events_of(ended)
        assert record["flags"] & Flag.REPORTED
        assert record["flags"] & Flag.PRICED


def events_of(ended: Ending) -> np.void:
    """The record of how a call ended."""
    token = Token(1, 0, 0, bytes(16), 0, 0, 0, 1, 0, 0, 0, 0, 1.0, 0.0, 0.0).pack()
    raw = outcome(token, ended, app="a", flags=int(Flag.FINAL), reference=None)
    return decoding.decode(raw)[0][0]


def unpriced(provider: Provider, name: str, **more: Any) -> dict[str, Any]:
    found = endpoint(provider, name, **more)
    del found["prices"]
    return found


def test_records_carry_prices_tiers_cache_writes_and_what_providers_report(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    dated = [PLAIN, {"from": "2020-01-02", **PLAIN, "tiers": {"flex": PLAIN}}]
    whole = {**json.loads(answer()), "usage": OPENROUTER, "service_tier": "flex"}
    headers = {"x-litellm-response-cost": "0.000415", "x-gemini-service-tier": "priority"}
    provider.on("own", Reply(body=json.dumps(whole).encode()))
    provider.on("head", Reply(body=answer(), headers=headers))
    said = chunks("hi", usage=True)
    last = json.loads(said[-2][6:]) | {"usage": OPENROUTER}
    provider.on("stream", Reply(chunks=[*said[:-2], event(last), said[-1]]))
    listed = [
        endpoint(provider, "own", prices=dated),
        *(unpriced(provider, name) for name in ("head", "stream")),
    ]
    with serving({"endpoints": listed}, state_dir, address) as sidecar:
        for name in ("own", "head", "stream"):
            assert sidecar.chat(name, stream=name == "stream").status_code == 200
        found = booked(sidecar, address, 3)
        own, head, stream = (found[name] for name in ("own", "head", "stream"))

    fields = ("price_source", "price_day", "tier", "cost_nano", "reported_cost_nano")
    day = int(np.datetime64("2020-01-02").astype(int))
    told = [tuple(int(one[name]) for name in fields) for one in (own, head, stream)]
    assert told == [
        (PriceSource.OWN, day, ServiceTier.FLEX, 198_000, 19_950_000_000),
        (PriceSource.PROVIDER, 0, ServiceTier.PRIORITY, 415_000, 415_000),
        (PriceSource.PROVIDER, 0, ServiceTier.USUAL, 19_950_000_000, 19_950_000_000),
    ]
    assert int(own["tokens_cache_write"]) == int(stream["tokens_cache_write"]) == 100
    assert all(int(one["flags"]) & Flag.PRICED for one in (own, head, stream))


# -- what nobody told of ------------------------------------------------------------------------


def silent(body: bytes) -> bytes:
    """An answer that tells of no usage."""
    return json.dumps({k: v for k, v in json.loads(body).items() if k != "usage"}).encode()


MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "usage": {"input_tokens": 25, "cache_read_input_tokens": 75, "output_tokens": 1},
}


def named(value: dict[str, Any]) -> bytes:
    return f"event: {value['type']}\n".encode() + event(value)


def test_what_was_used_and_not_told_is_estimated_and_refusals_used_nothing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("whole", Reply(body=silent(answer("word " * 80))))
    provider.on("stream", Reply(chunks=chunks(*["word"] * 7)))
    provider.on("cut", Reply(chunks=chunks(*["word"] * 7, finish=False)[:5], cut=True))
    provider.on("late", Reply(body=answer(), delay_s=30))
    provider.on("full", Reply(status=429))
    pieces: list[dict[str, Any]] = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in ("a piece of eight " * 2, "and so on")
    ]
    begun: dict[str, Any] = {"type": "message_start", "message": MESSAGE}
    provider.on("begun", Reply(chunks=[named(each) for each in (begun, *pieces)], cut=True))
    listed = [endpoint(provider, name) for name in ("whole", "stream", "cut", "full")]
    listed.append(endpoint(provider, "late", timeouts={"answer_s": 0.2}))
    listed.append(endpoint(provider, "begun", dialects=["messages"]))
    text, sent = "hello " * 100, []
    with serving({"endpoints": listed}, state_dir, address) as sidecar:
        for name in ("whole", "stream", "cut", "late", "full"):
            got = sidecar.chat(name, text, stream=name in ("stream", "cut"))
            sent.append(len(got.request.content))
        asked = {"model": "begun", "max_tokens": 9, "stream": True}
        asked["messages"] = [{"role": "user", "content": "hi"}]
        with suppress(httpx.RemoteProtocolError):
            sidecar.http.post("/v1/messages", json=asked)
        found = booked(sidecar, address, 8)  # one is repeated twice

    full = found.pop("full")
    estimates = [found[name] for name in ("whole", "stream", "cut", "late", "begun")]
    assert all(int(one["flags"]) & Flag.ESTIMATED for one in estimates)
    assert not any(int(one["flags"]) & (Flag.USAGE_KNOWN | Flag.PRICED) for one in estimates)
    for one, size in zip(estimates, sent[:4], strict=False):
        assert int(one["tokens_in"]) == round(size / 3.6)
    assert [int(one["tokens_out"]) for one in estimates] == [100, 7, 4, 0, 11]
    assert (int(found["begun"]["tokens_in"]), int(found["begun"]["tokens_cached"])) == (100, 75)
    for one in estimates:
        assert int(one["cost_nano"]) == int(one["tokens_in"]) * 1000 + int(one["tokens_out"]) * 2000
        assert int(one["price_source"]) == PriceSource.OWN
    assert int(full["result"]) == Result.RATE_LIMIT
    assert not int(full["flags"]) & (Flag.ESTIMATED | Flag.PRICED)
    assert not int(full["tokens_in"])
    usage = outcome_terms(np.array(estimates, dtype=RECORD))[USAGE].values
    assert usage[:, U.CALLS].sum() > 0
    assert not usage[:, [U.N, U.TOKENS_IN, U.TOKENS_OUT, U.COST_NANO, U.PRICED]].any()


@pytest.mark.parametrize("model", ["a", "gpt-9"])
def test_of_a_stream_that_its_client_left_counts_what_had_passed(
    model: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    for host in ("a", "p"):
        provider.on(host, Reply(chunks=chunks(*["word"] * 40), chunk_delay_s=0.03))
    value: dict[str, Any] = {"endpoints": [endpoint(provider, "a")]}
    value["providers"] = {"prov": {"base_url": provider.url("p"), "passthrough": True}}
    asked = {"model": model, "stream": True, **HELLO}
    with serving(value, state_dir, address) as sidecar:
        with sidecar.http.stream("POST", "/v1/chat/completions", json=asked) as got:
            heard = 0
            for line in got.iter_lines():
                heard += "word" in line
                if heard == 3:
                    break
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= 1)
        (left,) = records(address)

    assert int(left["result"]) == Result.CLIENT_GONE
    assert int(left["flags"]) & (Flag.ESTIMATED | Flag.USAGE_KNOWN) == Flag.ESTIMATED
    assert 3 <= int(left["tokens_out"]) < 40
    assert int(left["tokens_in"]) == round(len(got.request.content) / 3.6)


def test_an_overtaken_attempt_is_booked_with_what_it_was_sent(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(), delay_s=30))
    app = {"mode": "observe", "timeouts": {"beside_s": {"first_token": 0.1, "answer": 0.1}}}
    value = {"endpoints": [endpoint(provider, n) for n in "ab"], "apps": {"default": app}}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.chat("auto").status_code == 200
        found = booked(sidecar, address, 2)

    lost, won = found["a"], found["b"]
    assert (int(lost["result"]), int(won["result"])) == (Result.OVERTAKEN, Result.OK)
    assert int(lost["flags"]) & Flag.ESTIMATED
    assert int(lost["tokens_in"]) > 10
    assert (int(lost["tokens_out"]), int(won["tokens_out"])) == (0, 5)
    sums = spent_by(np.array([lost, won], dtype=RECORD)).tables[LedgerTable.CALLS].values.sum(0)
    c = LedgerColumn
    assert (sums[c.CALLS], sums[c.ATTEMPTS], sums[c.ESTIMATED], sums[c.UNPRICED]) == (1, 2, 1, 0)
    assert sums[c.COST_ESTIMATED] == int(lost["cost_nano"]) == int(lost["tokens_in"]) * 1000
    assert sums[c.COST] == sums[c.COST_ESTIMATED] + 20_000


# -- what is passed on --------------------------------------------------------------------------


OPENAI = "https://api.openai.com/v1"
LISTED = {"id": "mine", "model": "own", "base_url": OPENAI, "provider": "prov", "prices": PLAIN}
PASSING = {
    "endpoints": [LISTED],
    "providers": {"prov": {"base_url": OPENAI, "passthrough": True}},
}
EMBEDDED = {
    "object": "list",
    "data": [{"embedding": [0.5]}],
    "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
}


PICTURED = {
    "total_tokens": 4050,
    "input_tokens": 50,
    "output_tokens": 4000,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
}
COMPACTED = {
    "id": "resp_001",
    "object": "response.compaction",
    "output": [{"type": "compaction", "encrypted_content": "gAAA"}],
    "usage": {"input_tokens": 139, "output_tokens": 438, "total_tokens": 577},
}
"""Both as OpenAI's API reference has them."""
FAILED_CHAT = {
    "error": {"message": "upstream failed", "code": 502},
    "choices": [],
    "model": "m-2",
    "usage": {"prompt_tokens": 100, "completion_tokens": 7},
}
FAILED_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "failed",
    "error": {"code": "server_error", "message": "x"},
    "output": [],
    "usage": {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107},
}


@pytest.mark.parametrize(
    ("path", "said", "status"),
    [
        ("chat/completions", FAILED_CHAT, 200),
        ("responses", FAILED_RESPONSE, 200),
        ("chat/completions", FAILED_CHAT, 502),
    ],
)
def test_an_unstreamed_answer_that_failed_is_booked_with_the_usage_that_it_tells(
    provider: Provider, state_dir: Path, address: Address, path: str, said: Any, status: int
) -> None:
    provider.on("a", Reply(body=json.dumps(said).encode(), status=status))
    listed = [endpoint(provider, "a", prices=PLAIN, dialects=["chat", "responses"])]
    asked = {"model": "a", **({"input": "hi"} if path == "responses" else HELLO)}
    with serving({"endpoints": listed}, state_dir, address) as sidecar:
        sidecar.http.post(f"/v1/{path}", json=asked)
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= 1)
        found = records(address)

    for one in found:
        assert int(one["result"]) == (Result.BAD_REPLY if status == 200 else Result.SERVER)
        assert (int(one["tokens_in"]), int(one["tokens_out"])) == (100, 7)
        assert int(one["cost_nano"]) == 114_000
        assert int(one["flags"]) & Flag.USAGE_KNOWN
        assert not int(one["flags"]) & Flag.ESTIMATED


@pytest.mark.parametrize(
    ("path", "asked", "tokens"),
    [
        ("embeddings", {"input": "a" * 120_000}, 33_333),
        ("embeddings", {"input": ["a" * 360] * 10}, 1000),
        ("embeddings", {"input": list(range(500))}, 500),
        ("embeddings", {"input": [[1, 2], [3]]}, 3),
        ("embeddings", {"input": "é" * 180}, 100),
        ("completions", {"prompt": ["a" * 36, "b" * 324]}, 100),
        ("completions", {"prompt": [7] * 42}, 42),
    ],
)
def test_of_inputs_that_nobody_counted_all_are_estimated(
    provider: Provider, state_dir: Path, address: Address, path: str, asked: Any, tokens: int
) -> None:
    said = EMBEDDED if path == "embeddings" else {"choices": [{"text": "", "index": 0}]}
    provider.on("a", Reply(body=json.dumps({**said, "usage": None}).encode()))
    listed = [endpoint(provider, "a", dialects=[path])]
    with serving({"endpoints": listed}, state_dir, address) as sidecar:
        got = sidecar.http.post(f"/v1/{path}", json={"model": "a", **asked})
        assert got.status_code == 200, got.text
        one = booked(sidecar, address, 1)["a"]

    assert int(one["tokens_in"]) == tokens
    assert int(one["flags"]) & Flag.ESTIMATED


@pytest.mark.parametrize(
    ("way", "asked", "said", "booked_as"),
    [
        (
            ("POST", "/v1/chat/completions"),
            {"model": "gpt-4.1", **HELLO},
            answer(),
            (10, 5, 10 * 2000 + 5 * 8000, PriceSource.KNOWN),
        ),
        (
            ("POST", "/v1/chat/completions"),
            {"model": "own", **HELLO},
            answer(),
            (10, 5, 20_000, PriceSource.OWN),
        ),
        (
            ("POST", "/v1/chat/completions"),
            {"model": "nobody-knows", **HELLO},
            answer(),
            (10, 5, None, PriceSource.NONE),
        ),
        (
            ("POST", "/v1/embeddings"),
            {"model": "text-embedding-3-small", "input": "a"},
            json.dumps(EMBEDDED).encode(),
            (1000, 0, 20_000, PriceSource.KNOWN),
        ),
        (
            ("POST", "/v1/chat/completions"),
            {"model": "gpt-4.1", "service_tier": "priority", **HELLO},
            answer(),
            (10, 5, 10 * 3500 + 5 * 14_000, PriceSource.KNOWN),
        ),
        (("GET", "/v1/chat/completions/chatcmpl-1"), {}, answer(), None),
        (("POST", "/v1/files"), {}, b"{}", None),
        (
            ("POST", "/v1/images/generations"),
            {"model": "gpt-image-1", "prompt": "a"},
            b'{"data": []}',
            (0, 0, None, PriceSource.NONE),
        ),
        (
            ("POST", "/v1/images/generations"),
            {"model": "gpt-image-1", "prompt": "a"},
            json.dumps({"data": [], "usage": PICTURED}).encode(),
            (50, 4000, None, PriceSource.NONE),
        ),
        (
            ("POST", "/v1/images/generations"),
            {"model": "gpt-image-1", "prompt": "a", "stream": True},
            event({"type": "image_generation.completed", "b64_json": "", "usage": PICTURED}),
            (50, 4000, None, PriceSource.NONE),
        ),
        (
            ("POST", "/v1/responses/compact"),
            {"model": "gpt-4.1", "input": []},
            json.dumps(COMPACTED).encode(),
            (139, 438, 139 * 2000 + 438 * 8000, PriceSource.KNOWN),
        ),
        (
            ("POST", "/v1/fim/completions"),
            {"model": "own", "prompt": "a"},
            answer(),
            (10, 5, 20_000, PriceSource.OWN),
        ),
        (
            ("POST", "/v1/rerank"),
            {"model": "rerank-2", "query": "a", "documents": ["b"]},
            json.dumps({"data": [], "usage": {"total_tokens": 26}}).encode(),
            (26, 0, None, PriceSource.NONE),
        ),
        (
            ("POST", "/v1/chat/completions"),
            {"model": "own", **HELLO},
            json.dumps(FAILED_CHAT).encode(),
            (100, 7, 114_000, PriceSource.OWN),
        ),
        (
            ("POST", "/v1/embeddings"),
            {"model": "own", "input": ["a" * 360, [1, 2, 3]]},
            json.dumps({**EMBEDDED, "usage": None}).encode(),
            (103, 0, 103_000, PriceSource.OWN),
        ),
    ],
)
def test_what_is_passed_on_is_priced_by_whoever_took_it_as_far_as_that_is_known(
    way: tuple[str, str], asked: Any, said: bytes, booked_as: Any
) -> None:
    catalog = compile_text(yaml.safe_dump(PASSING), file="t.yaml").catalog
    to = catalog.passthrough(way[1])
    assert to is not None
    copy = AnswerCopy(dialect=answered_in(*way))
    copy.begin([(b"content-type", b"text/event-stream")] if said.startswith(b"data:") else [])
    copy.read(said)
    copy.close()

    body, model = json.dumps(asked).encode(), asked.get("model", "")
    more: dict[str, Any] = {"method": way[0], "path": way[1], "provider": to, "catalog": catalog}
    more["models"] = PassedModels(Names())
    settle_passed(copy, body, model, at_s=NOW_S, **more)

    found = copy.usage or copy.estimate
    told = None
    if found is not None:
        is_told = b'"usage": {' in said or b'"usage":{' in said
        assert (copy.usage is not None) == is_told
        told = found.prompt_tokens, found.completion_tokens, copy.cost_nano, copy.price_source
    assert told == booked_as


@pytest.mark.parametrize("size", [MAX_READ_BYTES - 100_000, MAX_READ_BYTES + 1, 3 * MAX_READ_BYTES])
def test_the_usage_at_the_end_of_pictures_is_read_however_large_they_are(size: int) -> None:
    said = {"created": 1, "data": [{"b64_json": "A" * size}], "usage": PICTURED}
    body = json.dumps(said).encode()
    copy = AnswerCopy(dialect=answered_in("POST", "/v1/images/generations"))
    copy.begin([])
    for at in range(0, len(body), 70_000):
        copy.read(body[at : at + 70_000])
    copy.close()

    assert copy.usage == usage_of(PICTURED)
    assert len(copy.body) < MAX_READ_BYTES + 70_001


def test_what_a_long_text_says_of_usage_is_none() -> None:
    said = json.dumps({"text": 'a "usage": {"prompt_tokens": 1} '}).encode()

    assert read_tail(said).usage is None
    assert read_tail(b'"usage": {"prompt_tokens": 1').usage is None


def test_passed_on_calls_are_their_users_and_what_nobody_can_price_is_said_to_be_so(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("p", lambda call: Reply(body=answer() if "chat" in call.path else b"{}"))
    value: dict[str, Any] = {"endpoints": [endpoint(provider, "a")]}
    value["providers"] = {"prov": {"base_url": provider.url("p"), "passthrough": True}}
    with serving(value, state_dir, address) as sidecar:
        user = {"x-router-user": "ann"}
        assert sidecar.chat("gpt-9", headers=user).status_code == 200
        assert sidecar.chat("a", headers=user).status_code == 200
        assert sidecar.http.get("/v1/files").status_code == 200
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= 3)
        found = records(address)

    tables = spent_by(found).tables
    calls, users = (tables[t].values.sum(axis=0) for t in (LedgerTable.CALLS, LedgerTable.USERS))
    assert (calls[LedgerColumn.CALLS], calls[LedgerColumn.UNPRICED]) == (3, 1)
    assert len(tables[LedgerTable.USERS].keys) == 1
    assert (users[LedgerColumn.CALLS], users[LedgerColumn.TOKENS_IN]) == (2, 20)


def test_ingested_calls_carry_their_own_cost_the_providers_and_their_tokens(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    tokens = {"tokens_in": 100, "tokens_out": 10, "tokens_cached": 40, "tokens_cache_write": 50}
    told: dict[str, dict[str, Any]] = {
        "listed": {**tokens, "service_tier": "flex", "reported_cost_usd": 0.5},
        "said": {**tokens, "cost_usd": 0.25},
        "reported": {"reported_cost_usd": 0.5},
        "silent": {},
        "refused": {"status": 429},
    }
    listed = [endpoint(provider, "listed")]
    listed += [unpriced(provider, name) for name in told if name != "listed"]
    with serving({"endpoints": listed}, state_dir, address) as sidecar:
        batch = [
            {
                "specversion": "1.0",
                "id": name,
                "source": "t",
                "type": "pointsman.outcome.v1",
                "data": {"endpoint": name, **said},
            }
            for name, said in told.items()
        ]
        kind = {"content-type": "application/cloudevents-batch+json"}
        got = sidecar.http.post("/v1/events", content=json.dumps(batch), headers=kind)
        assert got.status_code < 300, got.text
        found = booked(sidecar, address, 5)

    fields = ("cost_nano", "reported_cost_nano", "price_source", "tier", "tokens_cache_write")
    assert {name: tuple(int(one[f]) for f in fields) for name, one in found.items()} == {
        "listed": (120_000, 500_000_000, PriceSource.OWN, ServiceTier.FLEX, 50),
        "said": (250_000_000, 0, PriceSource.OWN, ServiceTier.USUAL, 50),
        "reported": (500_000_000, 500_000_000, PriceSource.PROVIDER, ServiceTier.USUAL, 0),
        "silent": (0, 0, PriceSource.NONE, ServiceTier.USUAL, 0),
        "refused": (0, 0, PriceSource.NONE, ServiceTier.USUAL, 0),
    }
    sums = spent_by(np.array(list(found.values()), dtype=RECORD)).tables[LedgerTable.CALLS]
    unpriced_ = sums.values[:, LedgerColumn.UNPRICED].sum()
    assert unpriced_ == 1  # the silent one
