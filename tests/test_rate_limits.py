"""Limits of providers: what may be written, learnt, taken, refused and given back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from conftest import Provider, Reply, Seen, Sidecar, answer, default_reply, serving
from test_reserving import silent, until

from router.budgets.rate_allowances import RateAllowances, RateGrant
from router.budgets.rate_claims import RateClaim, find_rate_claims
from router.config.compiled import Configuration, compile_text
from router.decision.context import Moment
from router.endpoints.learnt_limits import LearntLimits
from router.endpoints.rate_limits import (
    RateLimitsEntry,
    RateUnit,
    rates_of_endpoint,
    rates_of_provider,
)
from router.errors import ConfigError
from router.routes import now
from telemetry.budget_accounts import BudgetAccounts
from telemetry.embedded import PrivateServer
from telemetry.store import Address

NOON_S = 1_800_000_000.0  # a minute begins
FILE = """
providers:
  p: {base_url: "http://127.0.0.1:1/v1", auth: none, limits: PROVIDER}
endpoints:
  - {id: a, model: m, provider: p, limits: ENDPOINT}
  - {id: b, model: m, provider: p}
apps:
  default: {}
  chat: {}
  batch: {}
"""


def compiled(provider: str = "{}", own: str = "{}") -> Configuration:
    text = FILE.replace("PROVIDER", provider).replace("ENDPOINT", own)
    return compile_text(text, file="pointsman.yaml")


# -- what is written ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provider", "own", "said"),
    [
        ("{requests_per_minute: 0}", "{}", "providers.p.limits.requests_per_minute: 0"),
        ("{tokens_per_minute: lots}", "{}", "providers.p.limits.tokens_per_minute: lots"),
        ("{shares: {batch: 1.5}}", "{}", "providers.p.limits.shares.batch: 1.5"),
        ("{shares: {batch: 0}}", "{}", "providers.p.limits.shares.batch: 0"),
        ("{shares: {bacth: .3}}", "{}", "no such app; did you mean 'batch'?"),
        ("{}", "{shares: {nobody: .3}}", "endpoints[0].limits.shares.nobody"),
        ("{max_in_flight: 3}", "{}", "providers.p.limits.max_in_flight"),
    ],
)
def test_limits_that_cannot_be_kept_are_told_with_field_value_and_fix(
    provider: str, own: str, said: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        compiled(provider, own)

    assert said in str(raised.value)


def test_a_provider_is_one_account_and_an_endpoint_has_its_own_beside_it() -> None:
    found = compiled(
        "{requests_per_minute: 60, shares: {batch: .3}}", "{tokens_per_minute: 1000}"
    ).catalog
    first, second = (found.by_id[name].rates.with_learnt({}) for name in "ab")

    assert [(r.owner, r.unit, r.per_minute, r.share_of("batch")) for r in first] == [
        ("p", "requests", 60, 18),
        ("a", "tokens", 1000, 300),
    ]
    assert second == first[:1]  # one account


def test_an_endpoints_own_word_on_shares_goes_before_its_providers() -> None:
    shared = RateLimitsEntry(requests_per_minute=10, shares={"batch": 0.5})
    own = RateLimitsEntry(requests_per_minute=5, shares={"batch": 0.2})
    none = RateLimitsEntry(requests_per_minute=5, shares={})

    def of_a(entry: RateLimitsEntry) -> list[int | None]:
        return [r.share_of("batch") for r in rates_of_endpoint("a", entry, "p", shared).said]

    assert of_a(own) == [5, 1]
    assert of_a(none) == [5, None]


def test_shares_alone_ask_for_limits_to_be_learnt_and_without_them_nothing_is() -> None:
    with_shares = rates_of_endpoint(
        "a", RateLimitsEntry(tokens_per_minute=9), "p", RateLimitsEntry(shares={"batch": 0.5})
    )
    without = rates_of_endpoint("a", RateLimitsEntry(), "p", RateLimitsEntry())
    learnt = {RateUnit.REQUESTS: 60, RateUnit.TOKENS: 1}

    assert [
        (r.unit, r.per_minute, r.share_of("batch")) for r in with_shares.with_learnt(learnt)
    ] == [
        ("tokens", 9, 4),
        ("requests", 60, 30),
    ]
    assert without.with_learnt(learnt) == ()


# -- what is learnt -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "limits"),
    [
        # OpenAI's: what is used comes back steadily
        (
            {
                "x-ratelimit-limit-requests": "500",
                "x-ratelimit-remaining-requests": "470",
                "x-ratelimit-reset-requests": "3.6s",
                "x-ratelimit-limit-tokens": "30000",
                "x-ratelimit-remaining-tokens": "29999",
                "x-ratelimit-reset-tokens": "2ms",
            },
            {"requests": 500},
        ),
        # a window of a minute
        (
            {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-reset-tokens": "44"},
            {"tokens": 6000},
        ),
        # Anthropic's, with a date
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "20",
                "anthropic-ratelimit-requests-reset": "2027-01-15T08:00:36Z",
            },
            {"requests": 50},
        ),
        # of a day, as Groq's requests are
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
            },
            {},
        ),
        # by name
        ({"x-ratelimit-limit-tokens-minute": "500000"}, {"tokens": 500_000}),
        ({"x-ratelimit-limit-requests-day": "9", "x-ratelimit-reset-requests-day": "30"}, {}),
        # of a second
        ({"x-ratelimit-limit-requests": "10", "x-ratelimit-reset-requests": "1"}, {}),
    ],
)
def test_limits_of_a_minute_are_told_from_others(
    headers: dict[str, str], limits: dict[str, int]
) -> None:
    learnt = LearntLimits()
    learnt.follow({7})
    learnt.hear(7, [(k.encode(), v.encode()) for k, v in headers.items()], now_s=NOON_S)

    assert learnt.of(7) == limits
    learnt.hear(8, [(b"x-ratelimit-limit-tokens-minute", b"5")], now_s=NOON_S)
    assert learnt.of(8) == {}


def test_a_limit_that_turns_out_to_be_of_a_longer_span_is_forgotten() -> None:
    learnt = LearntLimits()
    learnt.follow({7})

    def hear(limit: bytes, reset: bytes) -> Any:
        head = ((b"ratelimit-limit-tokens", limit), (b"ratelimit-reset-tokens", reset))
        learnt.hear(7, head, now_s=NOON_S)
        return dict(learnt.of(7))

    assert hear(b"100", b"30") == {"tokens": 100}
    assert hear(b"200", b"0") == {"tokens": 200}  # another limit, of the same span
    assert hear(b"200", b"90") == {}


# -- what is taken ------------------------------------------------------------------------------


def claims_of(
    per_minute: int, share: float | None = None, *, unit: str = "requests", at_s: float = NOON_S
) -> tuple[RateClaim, ...]:
    entry = RateLimitsEntry.model_validate(
        {f"{unit}_per_minute": per_minute, "shares": {"batch": share} if share else None}
    )
    return find_rate_claims(rates_of_provider("p", entry).said, "batch", at_s=at_s)


@asynccontextmanager
async def taking(address: Address, holder: bytes = b"h" * 16) -> AsyncIterator[RateAllowances]:
    began = time.monotonic()
    allowances = RateAllowances(
        address, lambda: holder, clock=lambda: NOON_S + time.monotonic() - began
    )
    allowances.start()
    try:
        yield allowances
    finally:
        await allowances.stop()


def take(allowances: RateAllowances, claims: tuple[RateClaim, ...], amount: int = 1) -> bool:
    found = allowances.take(claims, [amount] * len(claims))
    return isinstance(found, RateGrant)


def idle(allowances: RateAllowances) -> bool:
    """No word is under way, and none leaves at once."""
    live = allowances._held.live.values()
    return all(a.word is None and not a.allowance.extra for a in live)


async def rounds(allowances: RateAllowances, claims: tuple[RateClaim, ...], n: int) -> int:
    """Take one after another; return how many got leave."""
    taken = 0
    for _ in range(n):
        taken += take(allowances, claims)
        await asyncio.sleep(0.002)
    return taken


@pytest.mark.anyio
async def test_an_app_takes_its_share_and_no_more_and_others_what_is_left(
    address: Address,
) -> None:
    batch = claims_of(60, 0.3)
    async with taking(address) as allowances:
        taken = await rounds(allowances, batch, 150)

        assert taken == 18
        assert allowances.is_spent(batch[0])
        assert not allowances.is_spent(batch[1])
        assert await rounds(allowances, batch[1:], 100) == 100  # the whole refuses nobody
        await until(lambda: allowances.is_spent(batch[1]))


@pytest.mark.anyio
async def test_two_sidecars_share_one_share(address: Address, client: Any) -> None:
    batch = claims_of(60, 0.3)
    async with taking(address) as one, taking(address, b"i" * 16) as other:
        taken = await asyncio.gather(*(rounds(each, batch, 150) for each in (one, other)))
        await until(lambda: idle(one) and idle(other))
        read = BudgetAccounts(client).read(batch[0].account)

    assert 18 <= sum(taken) <= 18 + 2 * 4  # and what each may take ahead
    assert min(taken) > 2
    assert read.debited >= 18


@pytest.mark.anyio
async def test_many_at_once_take_no_more_than_a_part_of_what_nothing_is_known_of(
    address: Address,
) -> None:
    batch = claims_of(60, 0.3)
    async with taking(address) as allowances:
        assert sum(take(allowances, batch) for _ in range(50)) == 4


@pytest.mark.anyio
async def test_while_the_store_is_away_each_sidecar_goes_by_what_it_took_itself(
    address: Address, store: PrivateServer
) -> None:
    batch = claims_of(60, 0.3)
    async with taking(address) as allowances:
        with silent(store):
            take(allowances, batch)
            await until(lambda: allowances.standing(batch[0]).is_unknown)
            assert sum(take(allowances, batch) for _ in range(50)) + 1 == 18


@pytest.mark.anyio
async def test_what_was_not_used_is_there_for_others(address: Address, client: Any) -> None:
    batch = claims_of(1000, 0.5, unit="tokens")
    async with taking(address) as allowances:
        grant = allowances.take(batch, [400, 400])
        assert isinstance(grant, RateGrant)
        await until(lambda: idle(allowances))
        assert not take(allowances, batch, 400)
        allowances.end(grant, [30, 30])
        allowances.end(grant, [30, 30])

        await until(lambda: take(allowances, batch, 400))

    read = BudgetAccounts(client).read(batch[0].account)
    assert (read.debited, read.n_live) == (430, 0)
    assert client.pttl(batch[0].account.keys[0]) <= 10 * 60 * 1000


@pytest.mark.anyio
async def test_a_call_that_is_larger_than_a_share_goes_when_nothing_else_does(
    address: Address,
) -> None:
    batch = claims_of(1000, 0.1, unit="tokens")
    async with taking(address) as allowances:
        assert take(allowances, batch, 5000)
        await until(lambda: idle(allowances))
        assert not take(allowances, batch, 1)


@pytest.mark.anyio
async def test_each_minute_begins_anew_and_those_before_are_forgotten(address: Address) -> None:
    first, then = claims_of(4, 0.5), claims_of(4, 0.5, at_s=NOON_S + 61)
    ahead_s = 0.0
    async with taking(address) as allowances:
        began = time.monotonic()
        allowances._clock = lambda: NOON_S + ahead_s + time.monotonic() - began
        grant = allowances.take(first, [1, 1])
        assert isinstance(grant, RateGrant)
        assert await rounds(allowances, first, 20) == 1
        ahead_s = 61.0
        assert await rounds(allowances, then, 20) == 2
        assert {c.account.start_s for c in (*first, *then)} == {
            period.start_s for period in allowances._held.live
        }
        allowances.end(grant, [1, 1])


# -- calls --------------------------------------------------------------------------------------


def at_second(second: float) -> Any:
    """A clock on which tests begin in this second of a minute, so that none ends meanwhile."""
    began = now()
    ahead_s = second - began.epoch_s % 60
    return lambda: Moment(now().epoch_s + ahead_s, now().monotonic_s)


@contextmanager
def limited(
    provider: Provider,
    state_dir: Path,
    address: Address,
    *endpoints: dict[str, Any],
    limits: dict[str, Any],
    strategy: str = "quality",
) -> Iterator[Sidecar]:
    """A sidecar whose endpoints are of one provider with these limits, for apps chat and batch."""
    app = {"mode": "route", "strategy": strategy}
    value = {
        "providers": {"p": {"base_url": provider.url("p"), "limits": limits, "passthrough": True}},
        "endpoints": list(endpoints) or [{"id": "a", "model": "a", "provider": "p"}],
        "apps": {name: {**app, "keys": [{"env": f"KEY_{name.upper()}"}]} for name in KEYS},
    }
    with serving(value, state_dir, address, clock=at_second(5.0)) as sidecar:
        yield sidecar


KEYS = {"chat": "key-of-chat-0123456789", "batch": "key-of-batch-0123456789"}


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(f"KEY_{name.upper()}", key)


def call(sidecar: Sidecar, app: str, **more: Any) -> Any:
    headers = {"authorization": f"Bearer {KEYS[app]}"}
    return sidecar.chat(headers=headers, **more)


class Metered:
    """A provider that takes so many requests a minute, told apart by what they say."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, Counter[str]()
        self.lock = threading.Lock()

    def __call__(self, seen: Seen) -> Reply:
        with self.lock:
            if self.taken.total() >= self.most:
                return Reply(429, b'{"error": {"message": "slow down"}}')
            self.taken[seen.json["messages"][0]["content"]] += 1
        return Reply(body=answer(), delay_s=0.01)


@pytest.mark.usefixtures("store")
def test_a_batch_does_not_starve_chat_through_two_sidecars(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """200 calls of a batch as fast as it can, through both; chat goes on beside it."""
    meter = Metered(60)
    provider.on("p", meter)
    limits = {"requests_per_minute": 60, "shares": {"batch": 0.3}}
    with ExitStack() as stack:
        both = [
            stack.enter_context(limited(provider, state_dir / name, address, limits=limits))
            for name in ("one", "other")
        ]
        pool = stack.enter_context(ThreadPoolExecutor(8))
        batch = pool.map(lambda n: call(both[n % 2], "batch", text="batch"), range(200))
        chat = [call(both[n % 2], "chat", text="chat").status_code for n in range(30)]
        codes = Counter(one.status_code for one in batch)

    assert chat == [200] * 30
    assert set(codes) == {200, 429}
    assert 9 <= meter.taken["batch"] == codes[200] <= 18 + 2 * 4  # and what each may take ahead
    assert meter.taken["chat"] == 30
    assert len(provider.calls) == codes[200] + 30  # what is refused leaves nothing to the provider


def test_a_share_that_is_spent_is_a_429_that_clients_wait_on(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"requests_per_minute": 10, "shares": {"batch": 0.1}}
    with limited(provider, state_dir, address, limits=limits) as sidecar:
        assert call(sidecar, "batch").status_code == 200
        sidecar.until(lambda: call(sidecar, "batch").headers.get("retry-after", "1") != "1")
        refused = call(sidecar, "batch")

        error = refused.json()["error"]
        assert (refused.status_code, error["code"]) == (429, "rate_share_spent")
        assert error["type"] == "rate_limit_error"
        told = error["rate_share"]
        assert (told["app"], told["limit_of"], told["unit"]) == ("batch", "p", "requests")
        assert (told["limit"], told["share"], told["per"]) == (10, 1, "minute")
        assert refused.headers["x-should-retry"] == "true"
        assert 1 < int(refused.headers["retry-after"]) <= 55
        assert len(provider.calls) == 1
        metrics = sidecar.http.get("/metrics").text
        assert 'router_shares_spent_total{app="batch",limit_of="p"}' in metrics
        with (
            openai.OpenAI(
                base_url=f"{sidecar.url}/v1", api_key=KEYS["batch"], max_retries=0
            ) as client,
            pytest.raises(openai.RateLimitError),
        ):
            client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": "x"}]
            )


def test_an_endpoint_that_takes_no_more_this_minute_is_passed_over_while_another_may_serve(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    own = {"model": "m", "provider": "p"}
    a = {"id": "a", **own, "limits": {"requests_per_minute": 2}}
    b = {"id": "b", **own, "params": {"seed": 1}}
    with limited(provider, state_dir, address, a, b, limits={}) as sidecar:
        served = []

        def is_passed_over() -> bool:
            served.append(call(sidecar, "chat").headers["x-router-endpoint"])
            return served[-1] == "b"

        sidecar.until(is_passed_over)
        assert served == ["a", "a", "b"]
        pinned = call(sidecar, "chat", model="a")  # nobody else may: its provider decides

        assert (pinned.status_code, pinned.headers["x-router-endpoint"]) == (200, "a")


def test_tokens_are_taken_as_expected_and_settled_as_counted(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"tokens_per_minute": 10_000, "shares": {"batch": 0.5}}
    with limited(provider, state_dir, address, limits=limits) as sidecar:
        for _ in range(3):
            assert call(sidecar, "batch").status_code == 200

        held = sidecar.app.rate_allowances._held.live.values()
        assert {a.claim.limit: a.allowance.spent for a in held} == {5000: 45, 10_000: 45}
        assert all(a.allowance.reserved == 0 for a in held)


def test_an_attempt_that_was_never_sent_takes_nothing(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    gone = {"id": "a", "model": "a", "provider": "p", "base_url": "http://127.0.0.1:9/v1"}
    limits = {"requests_per_minute": 10}
    with limited(provider, state_dir, address, gone, limits=limits) as sidecar:
        assert call(sidecar, "chat").status_code == 503

        (account,) = sidecar.app.rate_allowances._held.live.values()
        assert (account.allowance.spent, account.allowance.reserved) == (0, 0)


def test_what_is_passed_on_counts_as_well(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"requests_per_minute": 10, "shares": {"batch": 0.1}}
    with limited(provider, state_dir, address, limits=limits) as sidecar:
        assert call(sidecar, "batch", model="unlisted").status_code == 200
        refused = call(sidecar, "batch", model="unlisted")

        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_share_spent")
        assert call(sidecar, "chat", model="unlisted").status_code == 200
        assert [c.json["model"] for c in provider.calls] == ["unlisted"] * 2


def test_limits_are_learnt_from_answers_where_there_are_shares(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    head = {"x-ratelimit-limit-requests": "20", "x-ratelimit-reset-requests": "30"}
    provider.on("p", lambda seen: Reply(body=default_reply(seen).body, headers=head))
    with limited(provider, state_dir, address, limits={"shares": {"batch": 0.1}}) as sidecar:
        served = []

        def is_refused_for_the_minute() -> bool:
            found = call(sidecar, "batch")
            served.append(found.status_code == 200)
            return found.headers.get("retry-after", "1") != "1"

        sidecar.until(is_refused_for_the_minute)
        # The first was sent before anything was known of limits.
        assert sum(served) == 3
        (row,) = sidecar.http.get("/v1/router/endpoints").json()["endpoints"]
        told = {"of": "a", "unit": "requests", "limit": 20, "learnt": True, "shares": {"batch": 2}}
        assert row["per_minute"] == [told]
        assert call(sidecar, "chat").status_code == 200


def test_in_off_nothing_is_refused_and_all_is_counted(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    limits = {"requests_per_minute": 10, "shares": {"batch": 0.1}}
    with limited(provider, state_dir, address, limits=limits) as sidecar:
        (sidecar.state_dir / "off").touch()
        sidecar.until(lambda: sidecar.app.keeper.off)
        for _ in range(4):
            assert call(sidecar, "batch").status_code == 200

        held = sidecar.app.rate_allowances._held.live.values()
        assert {a.claim.limit: a.allowance.spent for a in held} == {1: 4, 10: 4}
