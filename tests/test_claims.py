"""Several pass-through providers: which takes what, and what apps may see of each other's there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, Sidecar, endpoint, serving
from dialects import speak

from router.config.compiled import Configuration, compile_text
from router.endpoints.providers import dialect_at
from router.errors import ConfigError
from telemetry.store import Address

ANTHROPICS = {"anthropic-version": "2023-06-01"}
THREE = {"rest": True, "claude": {"dialects": ["messages"]}, "files": {"paths": ["/v1/files/"]}}


def several(provider: Provider, **claims: Any) -> dict[str, Any]:
    for name in claims:
        provider.on(name, speak)
    providers = {
        name: {"base_url": provider.url(name), "passthrough": claim}
        for name, claim in claims.items()
    }
    return {"endpoints": [endpoint(provider, "a")], "providers": providers}


def compiled(claims: str) -> Configuration:
    text = (
        f"providers:\n{claims}"
        "endpoints: [{id: a, model: a, base_url: 'http://a/v1'}]\n"
    )  # fmt: skip
    return compile_text(text, file="test.yaml")


def problems(claims: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        compiled(claims)
    assert all(problem.hint for problem in caught.value.problems)
    return [(one.line, one.field, one.value) for one in caught.value.problems]


CLAIMED = """\
  rest: {base_url: "http://r/v1", passthrough: true}
  claude: {base_url: "http://c/v1", passthrough: {dialects: [messages]}}
  gpt: {base_url: "http://g/v1", passthrough: {dialects: [responses, embeddings]}}
  files: {base_url: "http://f/v1", passthrough: {paths: [/v1/files, /v1/messages/batches]}}
"""


@pytest.mark.parametrize(
    ("path", "by_anthropics", "name"),
    [
        ("/v1/messages", False, "claude"),
        ("/v1/messages", True, "claude"),
        ("/v1/messages/count_tokens", False, "claude"),
        ("/v1/messages/batches", True, "files"),  # the longest path
        ("/v1/messages/batches/b1/results", False, "files"),
        ("/v1/messages/batcheses", False, "claude"),
        ("/v1/messagesque", False, "rest"),
        ("/v1/responses", True, "gpt"),
        ("/v1/responses/compact", False, "gpt"),
        ("/v1/conversations", False, "gpt"),
        ("/v1/embeddings", False, "gpt"),
        ("/v1/chat/completions", False, "rest"),
        ("/v1/completions", False, "rest"),
        ("/v1/files", False, "files"),
        ("/v1/files/f1/content", False, "files"),
        ("/v1/filesystem", False, "rest"),
        ("/v1/files", True, "claude"),  # both makers have files
        ("/v1/skills", True, "claude"),
        ("/v1/skills", False, "rest"),
        ("/v1/models/x", True, "claude"),
        ("/v1/models/x", False, "rest"),
        ("/v1", False, "rest"),
    ],
)
def test_each_path_has_one_taker(path: str, by_anthropics: bool, name: str) -> None:
    catalog = compiled(CLAIMED).catalog
    found = catalog.passthrough(path, by_anthropics=by_anthropics)

    assert found is not None
    assert found.name == name


def test_what_nobody_claims_has_no_taker() -> None:
    catalog = compiled(CLAIMED.partition("\n")[2]).catalog

    assert catalog.passthrough("/v1/chat/completions") is None
    assert catalog.passthrough("/v1/skills") is None
    assert catalog.passthrough("/v1/batches") is None
    assert dialect_at("/livez") is None


def test_claims_that_leave_a_choice_are_refused_by_line_and_field() -> None:
    at = 'base_url: "http://x/v1"'
    assert problems(
        f"  a: {{{at}, passthrough: true}}\n"
        f"  b: {{{at}, passthrough: true}}\n"
        f"  c: {{{at}, passthrough: {{dialects: [chat, messages]}}}}\n"
        f"  d: {{{at}, passthrough: {{dialects: [messages], paths: [/v1/files]}}}}\n"
        f"  e: {{{at}, passthrough: {{paths: [/v1/batches, /v1/files/]}}}}\n"
        "  f: {passthrough: {paths: [/v1/videos]}}\n"
        f"  g: {{{at}, passthrough_state: shared}}\n"
    ) == [
        (3, "providers.b.passthrough", "true"),
        (5, "providers.d.passthrough.dialects[0]", "messages"),
        (6, "providers.e.passthrough.paths[1]", "/v1/files"),
        (7, "providers.f.passthrough", "true"),
        (8, "providers.g.passthrough_state", "shared"),
    ]


@pytest.mark.parametrize(
    "written",
    [
        "{}",
        "{dialects: []}",
        "{dialects: [chats]}",
        "{dialects: chat}",
        "{paths: [files]}",
        "{paths: [/files]}",
        "{paths: [/v1]}",
        "{paths: [/v1/]}",
        "{paths: [/v1/files/*]}",
        "{paths: ['/v1/files?x=y']}",
        "{paths: [/v1/../x]}",
        "{paths: [/v1/models]}",
        "{paths: [/v1/models/x]}",
        "{paths: [/v1/feedback]}",
        "{rest: true}",
        "[messages]",
        "yes",
        "messages",
    ],
)
def test_a_claim_that_means_nothing_is_refused_where_it_stands(written: str) -> None:
    found = problems(f'  p: {{base_url: "http://p/v1", passthrough: {written}}}\n')

    assert found
    assert all((line, field.split("[")[0][:23]) == (2, "providers.p.passthrough")
               for line, field, _ in found)  # fmt: skip


# -- over the wire -------------------------------------------------------------------------------


def asked(sidecar: Sidecar, path: str, body: Any = None, **headers: str) -> str:
    """Who was asked; the refusal where nobody was."""
    how = {"headers": headers}
    if body is None:
        got = sidecar.http.get(path, **how)
    else:
        got = sidecar.http.post(path, json=body, **how)
    said = got.headers.get("x-router-endpoint")
    return said or f"{got.status_code} {got.json()['error']['message']}"


def test_unlisted_models_and_paths_go_where_they_belong(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    say = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    with serving(several(provider, **THREE), state_dir, address) as sidecar:
        assert asked(sidecar, "/v1/messages", {"model": "opus", **say}) == "claude/opus"
        count = {"model": "opus", **say}
        assert asked(sidecar, "/v1/messages/count_tokens", count) == "claude/opus"
        assert asked(sidecar, "/v1/chat/completions", {"model": "gpt-9", **say}) == "rest/gpt-9"
        assert asked(sidecar, "/v1/responses", {"model": "gpt-9", "input": "x"}) == "rest/gpt-9"
        assert asked(sidecar, "/v1/files") == "files/files"
        assert asked(sidecar, "/v1/files", **ANTHROPICS) == "claude/files"
        assert asked(sidecar, "/v1/skills") == "rest/skills"
        assert asked(sidecar, "/v1/models/gpt-9", **ANTHROPICS) == "claude/models/*"
        assert asked(sidecar, "/v1/messages", {"model": "auto", **say}).startswith("404")
    paths = [call.path for call in provider.calls if call.host == "claude"]
    assert paths[:2] == ["/claude/v1/messages", "/claude/v1/messages/count_tokens"]


def test_a_path_that_nobody_claims_names_what_to_set(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = several(provider, claude=THREE["claude"], files=THREE["files"])
    with serving(value, state_dir, address) as sidecar:
        batches = asked(sidecar, "/v1/batches")
        chat = asked(sidecar, "/v1/responses", {"model": "gpt-9", "input": "x"})
        made = asked(sidecar, "/v1/responses/r/x/y", {"model": "gpt-9"})
        mine = asked(sidecar, "/v1/batches", **ANTHROPICS)
        unlisted = asked(sidecar, "/v1/chat/completions", {"model": "x", "messages": [{}]})

    assert batches.startswith("404")
    assert "passthrough: {paths: [/v1/batches]}" in batches
    assert chat.startswith("404")
    assert "passthrough: {dialects: [responses]}" in made
    assert mine == "claude/batches"
    assert unlisted.startswith("404")


def test_the_dry_run_says_who_would_take_a_model(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    claims = {"claude": THREE["claude"], "gpt": {"dialects": ["chat"]}}
    say = {"model": "x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    with serving(several(provider, **claims), state_dir, address) as sidecar:
        decide = sidecar.http.post
        assert decide("/v1/router/decide", json=say).json()["endpoint"] == "gpt/x"
        got = decide("/v1/router/decide", json=say, headers=ANTHROPICS)
        assert got.json()["endpoint"] == "claude/x"
        got = decide("/v1/router/decide", json={"model": "x", "input": "hi"})
        assert got.status_code == 404


def test_an_id_stays_with_the_provider_that_made_it(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Also where another one takes such calls now, and where unknown ids have two makers."""
    first = several(provider, one={"dialects": ["responses"]}, two={"dialects": ["chat"]})
    second = several(provider, two={"dialects": ["responses"]}, one={"dialects": ["chat"]})
    with serving(first, state_dir, address) as sidecar:
        body = {"model": "gpt-9", "input": "hi"}
        made = sidecar.http.post("/v1/responses", json=body).json()["id"]
        sidecar.until(lambda: sidecar.app.ids.n_unwritten == 0)
        assert asked(sidecar, "/v1/responses/resp_other") == "one/responses/*"
    with serving(second, state_dir, address) as sidecar:
        assert asked(sidecar, f"/v1/responses/{made}") == "one/responses/*"
        goes_on = {"model": "gpt-9", "input": "hi", "previous_response_id": made}
        assert asked(sidecar, "/v1/responses", goes_on) == "one/gpt-9"
        assert asked(sidecar, "/v1/responses/resp_other") == "two/responses/*"


# -- what lies there -----------------------------------------------------------------------------


STATE = [
    ("GET", "/v1/files"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files/file_1/content"),
    ("DELETE", "/v1/files/file_1"),
    ("POST", "/v1/batches"),
    ("POST", "/v1/messages/batches"),
    ("GET", "/v1/messages/batches"),
    ("POST", "/v1/assistants"),
    ("POST", "/v1/threads/t/runs"),
    ("GET", "/v1/vector_stores"),
    ("POST", "/v1/uploads"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("GET", "/v1/evals"),
    ("GET", "/v1/containers"),
    ("POST", "/v1/videos"),
    ("GET", "/v1/skills"),
    ("GET", "/v1/responses"),
    ("GET", "/v1/conversations"),
    ("GET", "/v1/chat/completions"),
    ("GET", "/v1/chat/completions/chatcmpl_1"),
    ("DELETE", "/v1/chat/completions/chatcmpl_1"),
    ("DELETE", "/v1/models/ft_1"),
    ("GET", "/v1/audio/voices"),
    ("POST", "/v1/what_comes_next"),
]
NO_STATE = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/messages/count_tokens"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/conversations"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/moderations"),
    ("POST", "/v1/images/generations"),
    ("POST", "/v1/audio/transcriptions"),
    ("POST", "/v1/rerank"),
    ("GET", "/v1/models/gpt-9"),
]


def status_of(sidecar: Sidecar, method: str, path: str, app: str) -> tuple[int, str]:
    body = {"model": "gpt-9", "messages": [{"role": "user", "content": "hi"}], "input": "hi"}
    json = None if method == "GET" else body
    got = sidecar.http.request(method, path, json=json, headers={"x-router-key": f"key-{app}"})
    if got.status_code == 200:
        return 200, ""
    return got.status_code, got.json()["error"]["code"]


def shared(provider: Provider, **more: Any) -> dict[str, Any]:
    value = several(provider, p=True)
    value["providers"]["p"] |= {"auth": {"env": "OUR_KEY"}, **more}
    apps = {name: {"keys": [{"env": name}]} for name in ("ann", "bob")}
    return value | {"apps": apps}


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sk-ours")
    for app in ("ann", "bob"):
        monkeypatch.setenv(app, f"key-{app}")


def test_what_apps_keep_under_one_key_is_closed_to_all_of_them(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(shared(provider), state_dir, address) as sidecar:
        for method, path in STATE:
            got = status_of(sidecar, method, path, "ann")
            assert got == (403, "shared_state"), (method, path)
        assert not provider.calls
        for method, path in NO_STATE:
            assert status_of(sidecar, method, path, "bob")[0] == 200, (method, path)
        message = sidecar.http.get("/v1/files", headers={"x-router-key": "key-ann"}).text
        assert "passthrough_state: shared" in message


@pytest.mark.parametrize("how", ["shared", "client", "one app", "out of reach"])
def test_state_is_open_where_nobody_elses_is_seen(
    how: str, provider: Provider, state_dir: Path, address: Address
) -> None:
    value = shared(provider)
    if how == "shared":
        value["providers"]["p"]["passthrough_state"] = "shared"
    if how == "client":
        value["providers"]["p"]["auth"] = "client"
    if how == "one app":
        del value["apps"]["bob"]
    if how == "out of reach":
        value["providers"]["p"]["region"] = "us"
        value["apps"]["bob"]["regions"] = ["eu"]
        value["endpoints"][0]["region"] = "eu"
    headers = {"x-router-key": "key-ann", "authorization": "Bearer sk-own"}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.http.get("/v1/files", headers=headers).status_code == 200


def test_whose_calls_come_to_the_same_key_by_an_endpoint_shares_it_too(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Chats that are stored by a routed call are listed by a path that is passed on."""
    value = shared(provider, region="us")
    value["apps"]["bob"]["regions"] = ["eu"]
    beside = {"id": "b", "model": "b", "provider": "p", "region": "eu"}
    with serving(value | {"endpoints": [beside]}, state_dir, address) as sidecar:
        got = status_of(sidecar, "GET", "/v1/chat/completions", "ann")
    assert got == (403, "shared_state")


def test_models_are_listed_to_who_asks_for_the_head_and_options_keep_no_state(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    key = {"x-router-key": "key-ann"}
    with serving(shared(provider), state_dir, address) as sidecar:
        for path in ("/v1/models", "/v1/models/a"):
            whole = sidecar.http.get(path, headers=key)
            head = sidecar.http.head(path, headers=key)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(whole.content))
        assert sidecar.http.head("/v1/files", headers=key).status_code == 403
        assert not provider.calls
        provider.on("p", Reply(body=b"{}"))
        for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/files"):
            assert sidecar.http.options(path, headers=key).status_code == 200
        assert {call.method for call in provider.calls} == {"OPTIONS"}


def test_a_path_that_no_provider_can_take_is_named_alone() -> None:
    paths = "[files, '/v1/files/', '/v1/files*', /files]"
    with pytest.raises(ConfigError) as caught:
        compiled(f"  p: {{base_url: 'http://p/v1', passthrough: {{paths: {paths}}}}}\n")

    at = "providers.p.passthrough.paths"
    assert [(one.field, one.value) for one in caught.value.problems] == [
        (f"{at}[0]", "files"),
        (f"{at}[2]", "'/v1/files*'"),
        (f"{at}[3]", "/files"),
    ]
    assert all("/v1/files" in one.hint for one in caught.value.problems)


@pytest.mark.parametrize("name", ["auto", "auto/code", "claude-auto"])
def test_a_name_of_ours_is_no_models_in_the_file(name: str) -> None:
    for written, field in (
        (f"models: {{{name}: {{}}}}\nendpoints: [{{id: a, model: {name}", "model"),
        (f"endpoints: [{{id: a, model: {name}", "model"),
        (f"endpoints: [{{id: a, model: m, upstream_model: {name}", "upstream_model"),
    ):
        with pytest.raises(ConfigError) as caught:
            compile_text(f"{written}, base_url: 'http://a/v1'}}]\n", file="test.yaml")
        found = {one.field: one.value for one in caught.value.problems}
        assert found[f"endpoints[0].{field}"] == name
        assert (f"models.{name}" in found) == written.startswith("models")


def test_a_name_of_ours_reaches_no_provider_inside_a_batch(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    def batch(*models: Any) -> dict[str, Any]:
        calls = [{"custom_id": str(i), "params": {"model": m}} for i, m in enumerate(models)]
        return {"requests": calls}

    path = "/v1/messages/batches"
    with serving(several(provider, p=True), state_dir, address) as sidecar:
        got = sidecar.http.post(path, json=batch("claude-x", "auto"))
        assert not provider.calls
        assert sidecar.http.post(path, json=batch("claude-x", 7)).status_code == 200

    error = got.json()["error"]
    assert (got.status_code, error["code"]) == (404, "model_not_found")
    assert "auto" in error["message"]
    assert error["param"] == "requests[1].params.model"


def test_an_endpoints_id_is_no_providers_model_in_a_dialect_that_it_does_not_take(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    value = several(provider, p=True)
    value["endpoints"] = [
        endpoint(provider, "msg1", model="claude", dialects=["messages"]),
        endpoint(provider, "resp1", model="gpt", dialects=["responses"]),
        endpoint(provider, "both", model="both", dialects=["messages"]),
    ]
    say = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    with serving(value, state_dir, address) as sidecar:
        for path, body in (
            ("completions", {"model": "msg1", "prompt": "hi"}),
            ("chat/completions", {"model": "msg1", **say}),
            ("responses", {"model": "msg1", "input": "hi"}),
            ("embeddings", {"model": "msg1", "input": "hi"}),
            ("messages", {"model": "resp1", **say}),
            ("messages/count_tokens", {"model": "resp1", **say}),
        ):
            got = sidecar.http.post(f"/v1/{path}", json=body)
            assert got.status_code == 404, path
            taken = "responses" if body["model"] == "resp1" else "messages"
            assert f"an endpoint that takes {taken}" in got.json()["error"]["message"]
        assert not provider.calls
        for model in ("claude", "both"):  # a provider may have one of that name
            got = sidecar.http.post("/v1/chat/completions", json={"model": model, **say})
            assert got.headers["x-router-endpoint"] == f"p/{model}"
