"""`pointsman check --live` of endpoints that break off, go on for ever, or say odd things."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, Reply, chunks, endpoint, event, pointsman
from live_model import Model, refusal

from router.config.tree import parse_yaml
from router.profiling.live_lines import lines_of
from router.profiling.live_verdicts import CheckedEndpoint, served_as_line
from telemetry.store import Address

Check = Callable[..., Any]
KEY = "pv-secret-key-1"
HELD = chunks("O", "K")[:2]
ERROR = {"error": {"message": "overloaded \x1b[31m" + KEY, "type": "overloaded_error"}}


@pytest.fixture
def check(tmp_path: Path, address: Address, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check models, each an endpoint of its own; return what is told of each, by its name."""
    monkeypatch.setenv("REDIS_URL", address.url)
    monkeypatch.setenv("A_KEY", KEY)

    def run(provider: Provider, models: dict[str, Any], **server: Any) -> dict[str, Any]:
        listed = []
        for name, model in models.items():
            provider.on(name, model)
            listed.append(endpoint(provider, name, upstream_model="m", auth={"env": "A_KEY"}))
        whole = {"server": {"state_dir": str(tmp_path / "s"), **server}, "endpoints": listed}
        file = tmp_path / "pointsman.yaml"
        file.write_text(yaml.safe_dump({**whole, "store": {"shards": SHARDS}}, sort_keys=False))
        found = pointsman("check", "--live", "--yes", "--json", "--config", file)
        assert KEY not in found.stdout + found.stderr
        return {one["endpoint"]: one for one in json.loads(found.stdout)["endpoints"]}

    return run


def row(told: dict[str, Any], what: str) -> tuple[str, str]:
    """What was found of one thing, and why."""
    one = next(each for each in told["compared"] if each["what"] == what)
    return one["found"], one["detail"]


CUT, WORDS = "its answer ended before its end", "it answers with an error: overloaded (key)"
STREAMS: dict[str, tuple[Reply, str]] = {
    "closed": (Reply(chunks=HELD), CUT),
    "broken": (Reply(chunks=HELD, cut=True), CUT),
    "broken-first": (Reply(chunks=[b"data: {"], cut=True), CUT),
    "silent": (Reply(chunks=[*HELD, b"", b""], chunk_delay_s=9), "no answer in 0.4 s"),
    "endless": (Reply(chunks=HELD[:1] + HELD[1:] * 500, chunk_delay_s=0.1), "no answer in 0.4 s"),
    "failed": (Reply(chunks=[*HELD, event(ERROR)]), WORDS),
    "failed-first": (Reply(chunks=[event(ERROR)]), WORDS),
    "whole": (Reply(body=json.dumps(ERROR).encode()), WORDS),
}


def test_an_endpoint_whose_first_answer_has_no_end_cannot_be_used_and_is_not_called_again(
    check: Check, provider: Provider
) -> None:
    models = {name: reply for name, (reply, _) in STREAMS.items()}

    told = check(provider, {**models, "good": Model()}, deadline_s=0.4)

    for name, (_, reason) in STREAMS.items():
        assert told[name]["reason"].startswith(reason), (name, told[name]["reason"])
        assert told[name]["compared"] == told[name]["changes"] == [], name
        assert provider.hosts().count(name) == told[name]["calls"] == 1, name
        assert told[name]["cost_is_estimated"], name
    assert not told["good"]["is_failure"]


def in_tools(reply: Reply) -> Callable[[Any], Reply]:
    """A model that answers whatever offers tools in a way of its own."""
    model = Model()
    return lambda call: reply if "tools" in call.json else model(call)


def called(arguments: Any) -> Reply:
    call = {"id": "c", "type": "function", "function": {"name": "say_ok", "arguments": arguments}}
    message = {"role": "assistant", "tool_calls": [call]}
    said = {"id": "x", "model": "m", "choices": [{"index": 0, "message": message}]}
    return Reply(body=json.dumps(said).encode())


LATER: dict[str, tuple[Reply, str, str]] = {
    "deep": (called("[" * 200_000), "no", "its arguments are no JSON that fits the tool's schema"),
    "none-there": (
        refusal(404, "No endpoints found that support tool use."),
        "no",
        "it refuses the call: No endpoints found that support tool use.",
    ),
    "not-there": (refusal(404, "tools: none"), "no", "it refuses the call: tools: none"),
    "forbidden": (refusal(403, "ask us"), "?", "its key may not do this (403): ask us"),
    "broken": (Reply(chunks=[b'{"id"'], cut=True), "?", CUT),
    "late": (Reply(delay_s=9), "?", "no answer in 0.5 s"),
    "long": (Reply(body=b" " * (5 << 20)), "?", "its answer has no end"),
}


def test_a_later_call_that_fails_spoils_nothing_else_and_is_told_in_the_providers_words(
    check: Check, provider: Provider
) -> None:
    models = {name: in_tools(reply) for name, (reply, _, _) in LATER.items()}

    told = check(provider, models, deadline_s=0.5)

    for name, (_, found, why) in LATER.items():
        assert row(told[name], "tools")[0] == found, (name, row(told[name], "tools"))
        assert row(told[name], "tools")[1].startswith(why), (name, row(told[name], "tools"))
        assert row(told[name], "schema")[0] == "yes", name
        assert provider.hosts().count(name) == told[name]["calls"] <= 5


@pytest.mark.parametrize("usage", [{}, {"prompt_tokens": "10"}, {"prompt_tokens": 10**18}])
def test_usage_that_is_no_count_is_called_that(
    check: Check, provider: Provider, usage: dict[str, Any]
) -> None:
    model = Model()

    def odd(call: Any) -> Reply:
        if not call.json.get("stream"):
            return model(call)
        last = {"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": usage}
        said = chunks("O", "K", usage=False)
        return Reply(chunks=[*said[:-1], event(last), said[-1]])

    told = check(provider, {"a": odd})["a"]

    assert row(told, "stream_usage") == ("no", "its streams end with usage that is no count")


NAMES = ["@cf/m", "llama3: latest", "true", "null", "*x", "a #b", "a, b", "4.10", "'q\"", "x]"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_to_paste_means_itself(name: str) -> None:
    line, _, _ = served_as_line(["0x1f", "ok"], name).partition(", if that is")
    assert parse_yaml(line, "a").root == {"served_as": ["0x1f", "ok", name]}


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb: c", "m" * 100_000, "a\u202eb", KEY])
def test_a_name_that_no_file_could_list_is_shown_clean_and_not_to_be_pasted(
    check: Check, provider: Provider, name: str, tmp_path: Path
) -> None:
    told = check(provider, {"a": Model(name=name)})["a"]

    shown = row(told, "model")[0]
    assert shown.isprintable()
    assert len(shown) <= 240
    assert "upstream_model: correct it" in told["changes"][0]
    (kept,) = json.loads((tmp_path / "s" / "verified.json").read_text()).values()
    assert kept["served"] == shown


def test_a_key_that_is_said_in_parts_is_masked_wherever_it_is_told(
    check: Check, provider: Provider
) -> None:
    parted = f"bad key {KEY[:7]}\x1b[0m{KEY[7:]}"
    told = check(provider, {"a": refusal(401, parted), "b": Model(name=f"m-{KEY[:13]}")})

    assert told["a"]["reason"] == "it turns down the key (401): bad key (key)"
    assert row(told["b"], "model")[0] == "m-(key)"


def sent_to(status: int, location: str) -> Callable[[Any], Reply]:
    """Redirect; `{host}` is where the call came to."""

    def moved(call: Any) -> Reply:
        host = f"http://{call.headers['host']}"
        return Reply(status, headers={"location": location.format(host=host, path=call.path)})

    return moved


def test_no_redirect_is_followed_and_the_address_to_write_is_told(
    check: Check, provider: Provider
) -> None:
    end = "/v1/chat/completions"
    base = provider.url("x").removesuffix("/x/v1")
    told = check(
        provider,
        {
            "within": sent_to(307, "/b" + end),
            "itself": sent_to(308, "{path}"),
            "away": sent_to(302, f"https://me:{KEY}@x.test{end}?k={KEY}"),
            "odd": sent_to(302, f"https://x.test/{KEY}{end}"),
            "page": sent_to(307, "/login"),
            "nowhere": sent_to(301, ""),
        },
    )

    found = {name: (one["reason"], one["fix"]) for name, one in told.items()}
    assert found["within"] == (
        f"it redirects to {base}/b{end} (307)",
        f"write base_url: {base}/b/v1",
    )
    assert found["itself"][0] == f"it redirects to {base}/itself{end} (308)"
    assert found["itself"][1].startswith("see to the server")
    assert found["away"] == (
        f"it redirects to https://x.test{end} (302)",
        "write base_url: https://x.test/v1, if that host is to have your key and prompts",
    )
    assert found["odd"][0] == f"it redirects to https://x.test/(key){end} (302)"
    assert found["odd"][1] == "correct base_url: what it says is no address to write there"
    assert found["page"][0] == f"it redirects to {base}/login (307)"
    assert "no call of this dialect" in found["page"][1]
    assert found["nowhere"][0] == "it redirects (301)"
    assert sorted(provider.hosts()) == sorted(told)
    assert {one["calls"] for one in told.values()} == {1}


def test_a_later_redirect_is_no_call_more_and_says_where_it_leads(
    check: Check, provider: Provider
) -> None:
    told = check(provider, {"a": in_tools(Reply(307, headers={"location": "/b/v1/x"}))})["a"]

    assert row(told, "tools")[0] == "?"
    assert "/b/v1/x (307)" in row(told, "tools")[1]
    assert len(provider.calls) == told["calls"] == 4


def over(most: float | None, cost: float, why: str = "", name: str = "a") -> CheckedEndpoint:
    return CheckedEndpoint(name, "app", "chat", calls=4, cost_usd=cost, most_usd=most, over=why)


def test_a_sum_above_what_was_shown_says_so_and_by_whom(check: Check, provider: Provider) -> None:
    model = Model()

    def dear(call: Any) -> Reply:
        if call.json.get("stream"):
            return model(call)
        said = json.loads(model(call).body)
        return Reply(body=json.dumps({**said, "usage": MUCH}).encode())

    told = check(provider, {"dear": dear, "good": model})

    assert told["dear"]["cost_usd"] > 6 > told["dear"]["most_usd"] > 0
    assert told["dear"]["over"] == "reports more than it was allowed to write"
    assert told["good"]["over"] == ""
    many = [over(0.5, 44.0, told["dear"]["over"], "dear"), over(6e-5, 2e-5), over(None, 9.0)]
    assert list(lines_of(many))[-1] == (
        "3 endpoints, 12 calls, 53.00002 USD, above the 0.50006 that was shown, by dear, which "
        "reports more than it was allowed to write: all as declared"
    )
    assert "above" not in list(lines_of([over(0.5, 0.5), over(None, 9.0)]))[-1]


MUCH = {"prompt_tokens": 10, "completion_tokens": 10**6, "total_tokens": 10**6 + 10}
