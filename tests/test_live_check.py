"""`pointsman check --live`: what endpoints really do, beside what is declared of them."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import SHARDS, Provider, Reply, endpoint, pointsman, serving
from hypothesis import given, settings
from hypothesis import strategies as st
from live_model import Model, refusal, speaks_all

from router.commands.check_live import check_live
from router.endpoints.entries import Dialect
from router.endpoints.verified import Verified, keep_verified, read_verified
from router.profiling.live_calls import CallManner, read_answer
from telemetry import frames, keys
from telemetry.decoding import decode
from telemetry.events import Flag, Kind
from telemetry.store import Address, connect

Check = Callable[..., Any]


@pytest.fixture
def check(tmp_path: Path, address: Address, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Write a configuration, and check it."""
    monkeypatch.setenv("REDIS_URL", address.url)
    monkeypatch.setenv("A_KEY", "sk-1")

    def run(value: dict[str, Any], *options: str, yes: bool = True) -> Any:
        server = {"state_dir": str(tmp_path / "state"), **value.get("server", {})}
        whole = {**value, "server": server, "store": {"shards": SHARDS}}
        file = tmp_path / "pointsman.yaml"
        file.write_text(yaml.safe_dump(whole, sort_keys=False))
        said = ["check", "--live", "--config", file, *options, *(["--yes"] if yes else [])]
        return pointsman(*said)

    return run


def rows_of(found: Any) -> dict[str, dict[str, Any]]:
    """What is told of each endpoint, by its id, with what was compared by name."""
    told = json.loads(found.stdout)
    return {
        one["endpoint"]: {**one, **{row["what"]: row for row in one["compared"]}}
        for one in told["endpoints"]
    }


def verdicts(row: dict[str, Any]) -> dict[str, str]:
    return {one["what"]: one["verdict"] for one in row["compared"]}


def one_of(provider: Provider, model: Any, **more: Any) -> dict[str, Any]:
    provider.on("a", model)
    return {"endpoints": [endpoint(provider, "a", **{"upstream_model": "m", **more})]}


# -- what is found -------------------------------------------------------------------------------


def test_all_that_a_model_does_is_found_in_each_dialect(
    check: Check, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaks_all(provider, monkeypatch)
    endpoints = [
        endpoint(provider, name, upstream_model="m", dialects=[name])
        for name in ("chat", "messages", "responses")
    ]

    found = check({"endpoints": endpoints}, "--json")

    assert found.exit_code == 0, found.stdout
    told = rows_of(found)
    for name in ("chat", "messages", "responses"):
        what = ["model", "stream_usage", "tools", "schema", "reasoning"]
        assert verdicts(told[name]) == dict.fromkeys(what, "verified"), told[name]
        assert told[name]["calls"] == 4
        assert told[name]["cost_usd"] > 0
    paths = {call.host: call.path.rpartition("/v1/")[2] for call in provider.calls}
    assert paths == {"chat": "chat/completions", "messages": "messages", "responses": "responses"}


def test_who_makes_vectors_or_completes_text_alone_is_called_once(
    check: Check, provider: Provider
) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}
    counts = {"prompt_tokens": 1, "total_tokens": 1}
    answer = {"object": "list", "data": [vector], "model": "m", "usage": counts}
    provider.on("a", Reply(body=json.dumps(answer).encode()))
    choice = {"index": 0, "text": "OK", "finish_reason": "stop"}
    said = {"id": "x", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    provider.on("b", Reply(body=json.dumps(said).encode()))
    value = {
        "endpoints": [
            endpoint(provider, "a", upstream_model="m", dialects=["embeddings"]),
            endpoint(provider, "b", upstream_model="m", dialects=["completions"]),
        ]
    }

    found = check(value, "--json")

    assert found.exit_code == 0, found.stdout
    assert verdicts(rows_of(found)["a"]) == {"model": "verified", "embeddings": "verified"}
    assert verdicts(rows_of(found)["b"]) == {"model": "verified"}
    assert len(provider.calls) == 2


def test_what_disagrees_is_told_with_the_line_to_write_and_nothing_is_written(
    check: Check, provider: Provider, tmp_path: Path
) -> None:
    model = Model(name="other-1", tools="ignored", schema="prose", usage=False, thinks=False)

    found = check(one_of(provider, model))

    assert found.exit_code == 1
    file = tmp_path / "pointsman.yaml"
    lines = file.read_text().splitlines()
    line = 1 + next(n for n, text in enumerate(lines) if text.startswith("- id: a"))
    for change in (
        "served_as: [other-1], if that is the model meant; else correct its name",
        "stream_usage: false",
        "reasoning: never",
        "capabilities: {tools: false, schema: false}",
    ):
        assert f"{file}:{line}: endpoint a: {change}" in found.stdout, found.stdout
    assert "capabilities" not in file.read_text()
    assert "see a" in found.stdout.splitlines()[-1]


def test_what_an_endpoint_refuses_it_does_not_do(check: Check, provider: Provider) -> None:
    model = Model(tools=False, schema=False, says="sk-1 may not")
    told = rows_of(check(one_of(provider, model, auth={"env": "A_KEY"}), "--json"))["a"]

    assert (told["tools"]["found"], told["schema"]["found"]) == ("no", "no")
    assert "this model does not do tools ((key) may not)" in told["tools"]["detail"]


@pytest.mark.parametrize(
    ("declared", "line"),
    [
        ({"tools": False, "images": False}, "capabilities: {tools: true, images: false}"),
        (["images", "schema"], "capabilities: [images, schema, tools]"),
    ],
)
def test_what_is_declared_not_to_be_there_is_tried_as_well(
    check: Check, provider: Provider, declared: Any, line: str
) -> None:
    found = check(one_of(provider, Model(), capabilities=declared))

    assert found.exit_code == 1
    assert f": {line}" in found.stdout, found.stdout


def test_a_list_leaves_out_what_lists_rule_out_and_a_map_says_the_rest(
    check: Check, provider: Provider
) -> None:
    some = ["tools", "schema", "images"]
    found = check(one_of(provider, Model(tools="ignored"), capabilities=some))
    assert ": capabilities: [schema, images]" in found.stdout
    some = ["tools", "schema", "reasoning"]
    found = check(one_of(provider, Model(thinks=False), capabilities=some))
    assert "reasoning: false" in found.stdout
    assert "{tools: true, images: false, audio: false, schema: true, reasoning: false}" in (
        found.stdout
    )


def test_what_agrees_with_what_is_declared_needs_no_change(
    check: Check, provider: Provider
) -> None:
    declared = {"tools": False, "schema": True}
    model = Model(name="m-2026-01-15", tools="ignored", thinks=None)
    found = check(one_of(provider, model, capabilities=declared, served_as=["n"]), "--json")

    told = rows_of(found)["a"]
    assert found.exit_code == 0
    assert verdicts(told) == {
        "model": "verified",
        "stream_usage": "verified",
        "tools": "verified",
        "schema": "verified",
        "reasoning": "not known",
    }
    assert (told["tools"]["declared"], told["stream_usage"]["declared"]) == ("no", "yes (default)")


def test_who_is_said_never_to_think_is_not_asked_to(check: Check, provider: Provider) -> None:
    model = Model()
    assert check(one_of(provider, model, reasoning="never")).exit_code == 0
    assert not any("reasoning_effort" in asked for asked in model.calls)
    assert len(model.calls) == 3


def test_five_calls_are_the_most_and_the_first_writes_sixteen_tokens(
    check: Check, provider: Provider
) -> None:
    model = Model(limit="max_completion_tokens", forced=False)
    told = rows_of(check(one_of(provider, model), "--json"))["a"]

    assert told["calls"] == len(model.calls) == 5
    assert verdicts(told)["tools"] == "verified"
    assert (verdicts(told)["reasoning"], told["reasoning"]["detail"]) == (
        "not known",
        "5 calls were made",
    )
    assert model.calls[0]["max_tokens"] == 16
    assert model.calls[1]["max_completion_tokens"] == 16


def test_calls_that_fail_for_a_moment_are_made_again_and_counted(
    check: Check, provider: Provider
) -> None:
    model, n = Model(), 0

    def now_and_then(call: Any) -> Reply:
        nonlocal n
        n += 1
        broken = {"retry-after": "0"}
        return Reply(500, b"{}", headers=broken) if n % 2 else model(call)

    told = rows_of(check(one_of(provider, now_and_then), "--json"))["a"]

    assert told["calls"] == n == len(provider.calls) == 5
    assert (verdicts(told)["stream_usage"], verdicts(told)["tools"]) == ("verified", "verified")
    assert verdicts(told)["reasoning"] == "not known"


def test_what_does_not_say_what_it_used_is_counted_at_what_it_may_use(
    check: Check, provider: Provider
) -> None:
    model = Model(usage=False)
    found = check(one_of(provider, model, stream_usage=False))

    assert found.stdout.splitlines()[-1] == (
        "1 endpoint, 4 calls, about 0.00011 USD: all as declared"
    ), found.stdout


# -- what fails ----------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Reply, str, str]] = {
    "wrong key": (
        refusal(401, "Incorrect API key provided"),
        "it turns down the key (401)",
        "put a key that holds where auth says",
    ),
    "no such model": (
        refusal(404, "The model `m` does not exist", "model_not_found"),
        "it knows no such model or path (404)",
        "correct upstream_model",
    ),
    "no credit": (refusal(402, "pay"), "the account has no credit (402)", "add credit"),
    "nonsense": (Reply(200, b"<html>hello</html>"), "no answer", "correct the path in base_url"),
    "another server": (Reply(200, b'{"a": [1]}'), "no answer of its dialect", "`dialects`"),
    "redirect": (
        Reply(301, b"", headers={"location": "https://x.test"}),
        "redirect",
        "base_url",
    ),
    "busy": (
        Reply(429, b'{"error": {"message": "slow down"}}', headers={"retry-after": "600"}),
        "it takes no more calls now (429)",
        "have the key's limits raised",
    ),
    "slow": (Reply(delay_s=30), "no answer in 0.4 s", "too slow"),
}


def test_each_endpoint_that_fails_is_named_with_the_fix_and_the_others_are_looked_at(
    check: Check, provider: Provider
) -> None:
    listed = [endpoint(provider, "b", upstream_model="m")]
    for name, (reply, _, _) in FAILURES.items():
        id_ = name.replace(" ", "-")
        provider.on(id_, reply)
        key = {"auth": {"env": "A_KEY"}}
        listed.append(endpoint(provider, id_, upstream_model="m", **key))
    away = {"base_url": "http://127.0.0.1:1/v1"}
    listed.append(endpoint(provider, "away", upstream_model="m", **away))
    listed.append(endpoint(provider, "keyless", auth={"env": "NO_SUCH_KEY"}))
    provider.on("b", Model())

    found = check({"server": {"deadline_s": 0.4}, "endpoints": listed})

    assert found.exit_code == 1
    told = dict(line.split(": ", 1) for line in found.stdout.splitlines() if ": " in line)
    for name, (_, reason, fix) in FAILURES.items():
        shown = told[name.replace(" ", "-")]
        assert shown.startswith("CANNOT BE USED: "), (name, shown)
        assert reason in shown, (name, shown)
        assert fix in shown, (name, shown)
    away_fix = "nothing listens there; start it, or correct host and port in base_url"
    assert told["away"] == f"CANNOT BE USED: {away_fix}"
    assert told["keyless"].startswith("not called: no key")
    assert told["keyless"].endswith("is not set; export NO_SUCH_KEY")
    assert told["b"].startswith("answers")
    assert "keyless" not in provider.hosts()
    assert "sk-1" not in found.stdout + found.stderr


def test_nothing_is_sent_to_whom_no_rules_permit_or_whose_key_is_the_callers(
    check: Check, provider: Provider
) -> None:
    model = Model()
    provider.on("c", model)
    value = {
        "organisation": {"regions": ["eu"]},
        "endpoints": [
            endpoint(provider, "a", region="us"),
            endpoint(provider, "b", region="eu", auth="client"),
            endpoint(provider, "c", region="eu", upstream_model="m"),
        ],
    }

    found = check(value)

    assert "a: not called: no app's rules permit it" in found.stdout, found.stdout
    assert "b: not called: it is called under each caller's own key" in found.stdout
    assert found.exit_code == 0
    assert set(provider.hosts()) == {"c"}
    assert check(value, "--endpoint", "a").exit_code == 1  # it was named, and not looked at
    assert set(provider.hosts()) == {"c"}


def test_each_is_called_under_the_first_app_that_permits_it(
    check: Check, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("K1", "K2"):
        monkeypatch.delenv(name, raising=False)
    value = {
        "endpoints": [
            endpoint(provider, "a", upstream_model="m", region="us"),
            endpoint(provider, "b", upstream_model="m", region="eu"),
        ],
        "apps": {
            "careful": {"regions": ["eu"], "keys": [{"env": "K1"}]},
            "other": {"keys": [{"env": "K2"}]},
        },
    }
    provider.on("a", Model())
    provider.on("b", Model())

    told = rows_of(check(value, "--json"))

    assert (told["a"]["app"], told["b"]["app"]) == ("other", "careful")
    assert not told["a"]["is_failure"]


# -- before anything is paid for -----------------------------------------------------------------


def test_prices_come_first_and_without_a_terminal_or_a_yes_nothing_is_sent(
    check: Check, provider: Provider
) -> None:
    value = one_of(provider, Model())
    value["endpoints"].append(endpoint(provider, "b", prices=None))

    found = check(value, yes=False)

    assert found.exit_code == 2
    assert "a: at most 5 calls, at most 0.00936 USD" in found.stderr
    assert "b: at most 5 calls, no price known" in found.stderr
    assert "together at most 0.00936 USD, beside 1 without a price" in found.stderr
    assert "say --yes" in found.stderr
    assert provider.calls == []


class Terminal(io.StringIO):
    """A terminal at which somebody types."""

    def isatty(self) -> bool:
        return True


def test_at_a_terminal_it_asks_and_a_no_sends_nothing(
    check: Check, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check(one_of(provider, Model()), yes=False).exit_code == 2  # writes the file

    for typed in ("n\n", "\n", ""):
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
        with pytest.raises(SystemExit) as ended:
            check_live(tmp_path / "pointsman.yaml", (), yes=False, as_json=False)
        assert ended.value.code == 1
    assert provider.calls == []


def test_what_only_a_live_check_takes_is_refused_without_one(tmp_path: Path) -> None:
    found = pointsman("check", "--yes", "--config", tmp_path / "none.yaml")
    assert (found.exit_code, "--live" in found.stderr) == (2, True)


FIELDS = [
    "choices",
    "message",
    "delta",
    "tool_calls",
    "function",
    "index",
    "content",
    "usage",
    "model",
    "output",
    "response",
    "data",
    "embedding",
    "type",
    "error",
]
ODD = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=40, deadline=None)
@given(
    st.binary(max_size=50) | ODD.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([*Dialect]),
)
def test_no_answer_is_too_odd_to_be_read(raw: bytes, dialect: Dialect) -> None:
    manner = CallManner(dialect, "max_tokens")
    for body in (raw, b"data: " + raw + b"\n\n"):
        assert isinstance(read_answer(manner, 200, body).is_sound, bool)
        assert isinstance(read_answer(manner, 500, body).error, str)


def test_only_those_named_are_called_and_a_name_that_is_none_is_refused(
    check: Check, provider: Provider
) -> None:
    value = one_of(provider, Model())
    value["endpoints"].append(endpoint(provider, "b", upstream_model="m"))
    assert check(value, "--endpoint", "a").exit_code == 0
    assert set(provider.hosts()) == {"a"}
    found = check(value, "--endpoint", "aa")
    assert found.exit_code == 2
    assert "--endpoint aa: there is none of that id; did you mean 'a'?" in found.stderr


def test_a_file_with_mistakes_calls_nobody(check: Check, provider: Provider) -> None:
    found = check({"endpoints": [{"id": "a"}]})
    assert found.exit_code == 2
    assert "pointsman.yaml:" in found.stderr


def test_a_state_directory_that_cannot_be_used_is_said_before_anything_is_sent(
    check: Check, provider: Provider, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("x")
    value = one_of(provider, Model())
    found = check({"server": {"state_dir": str(tmp_path / "taken")}, **value})
    assert found.exit_code == 2
    assert "state_dir" in found.stderr
    assert provider.calls == []


# -- what is kept --------------------------------------------------------------------------------


def test_what_was_found_is_kept_for_its_owner_and_shown_with_the_date(
    check: Check, provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = one_of(provider, Model(schema="prose"), capabilities={"tools": True})

    assert check(value).exit_code == 1

    file = tmp_path / "state" / "verified.json"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    (kept,) = json.loads(file.read_bytes()).values()
    found = {"stream_usage": True, "tools": True, "schema": False, "reasoning": True}
    assert (kept["endpoint"], kept["found"], kept["served"]) == ("a", found, "m")
    shown = pointsman("catalog", "--config", tmp_path / "pointsman.yaml", "--json")
    (row,) = json.loads(shown.stdout)["endpoints"]
    tools, schema = row["capabilities"]["tools"], row["capabilities"]["schema"]
    on = tools["checked"]["on"]
    assert tools == {"value": True, "source": "verified", "checked": {"found": True, "on": on}}
    assert schema == {"value": True, "source": "default", "checked": {"found": False, "on": on}}
    assert "checked" not in row["capabilities"]["images"]
    lines = pointsman("catalog", "--config", tmp_path / "pointsman.yaml").stdout
    assert f"can tools (verified {on})" in lines
    assert f"schema (disagrees, checked {on})" in lines


def test_what_was_found_at_another_address_says_nothing_and_damage_is_nothing(
    check: Check, provider: Provider, tmp_path: Path
) -> None:
    value = one_of(provider, Model())
    assert check(value).exit_code == 0
    config = tmp_path / "pointsman.yaml"
    config.write_text(config.read_text().replace("upstream_model: m", "upstream_model: n"))
    assert "verified" not in pointsman("catalog", "--config", config).stdout
    config.write_text(config.read_text().replace("upstream_model: n", "upstream_model: m"))
    assert "verified" in pointsman("catalog", "--config", config).stdout
    for damage in (b"{", b"[]", b'{"zz": 1}', b'{"01": {"endpoint": "a"}}', b"\xff\xfe"):
        (tmp_path / "state" / "verified.json").write_bytes(damage)
        assert read_verified(tmp_path / "state") == {}
    assert pointsman("catalog", "--config", config).exit_code == 0
    one = Verified("a", 1_800_000_000_000, {"tools": True})
    keep_verified(tmp_path / "state", {7: one})
    assert read_verified(tmp_path / "state") == {7: one}


def test_a_sidecar_shows_it_and_routes_by_what_is_declared(
    check: Check, provider: Provider, tmp_path: Path, address: Address
) -> None:
    value = one_of(provider, Model(tools="ignored"))
    assert check(value).exit_code == 1

    with serving(value, tmp_path / "state", address) as sidecar:
        (row,) = sidecar.http.get("/v1/router/endpoints").json()["endpoints"]
        checked = row["profile"]["capabilities"]["tools"]
        assert (checked["value"], checked["checked"]["found"]) == (True, False)
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        assert sidecar.chat("auto", tools=[tool], max_tokens=9).status_code == 200


def test_its_calls_are_no_traffic_of_the_app(
    check: Check, provider: Provider, address: Address, tmp_path: Path
) -> None:
    assert check(one_of(provider, Model())).exit_code == 0
    store = connect(address)
    entries = [fields for shard in range(SHARDS) for _, fields in store.xrange(keys.stream(shard))]
    records = np.concatenate([decode(frames.unpack(f[b"f"]).body)[0] for f in entries])
    store.close()
    outcomes = records[records["kind"] == Kind.OUTCOME]
    assert len(outcomes) == 4
    assert ((outcomes["flags"] & Flag.PROFILE) > 0).all()
    assert ((outcomes["flags"] & Flag.PRICED) > 0).all()


def test_a_pipe_in_its_place_is_no_file_and_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "verified.json")
    assert read_verified(tmp_path) == {}
    one = Verified("a", 1_800_000_000_000, {"tools": True})
    keep_verified(tmp_path, {7: one})
    assert read_verified(tmp_path) == {7: one}


def test_what_cannot_be_kept_is_told_all_the_same(
    check: Check, provider: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "state" / "verified.json"
    file.mkdir(parents=True)

    found = check(one_of(provider, Model()))

    assert found.exit_code == 1
    assert "a: answers (chat" in found.stdout
    assert f"{file}: what was found could not be kept (Is a directory)" in found.stderr
    assert json.loads(check(one_of(provider, Model()), "--json").stdout)["ok"] is False
    assert os.listdir(file.parent).count("verified.json") == 1
    assert not [name for name in os.listdir(file.parent) if name.startswith(".verified")]
