"""The page of a running sidecar: who may see it, what it is sent with, and what it costs."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pages
import pytest
import redis
from conftest import LEARN, Provider, Sidecar, endpoint, pointsman, serving

from router.beliefs.beliefs import Beliefs
from router.config.compiled import App, Configuration, compile_text
from router.net.paths import normal_path
from router.policy.callers import Keys
from router.report.face.desk import FoundPage, PageDesk
from router.report.page_wish import PageWish
from telemetry.store import Address

CHALLENGE = 'Basic realm="pointsman", charset="UTF-8"'
READ = (
    "/",
    "/task/code",
    "/decision/rd_x",
    "/v1/router/report",
    "/v1/router/ledger",
    "/v1/router/budgets",
    "/v1/router/posteriors",
    "/v1/router/endpoints",
    "/v1/router/decisions",
    "/metrics",
    "/readyz?verbose",
)
OWN_TOO = (
    "/",
    "/task/code",
    "/v1/router/report",
    "/v1/router/ledger",
    "/v1/router/budgets",
    "/v1/router/endpoints",
)
"""An app's key sees its own there."""
GUARDS = (
    "script-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'none'",
)


def basic(key: str, user: str = "any") -> dict[str, str]:
    return {"authorization": f"Basic {b64encode(f'{user}:{key}'.encode()).decode()}"}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def entries(provider: Provider) -> dict[str, Any]:
    return {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None, "chat": None},
        "strategies": LEARN,
        "apps": {
            name: {"mode": "route", "strategy": "learn", "keys": [{"env": f"{name.upper()}_KEY"}]}
            for name in ("shop", "legal")
        },
    }


@pytest.fixture
def wide(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sidecar]:
    """A sidecar that others can reach."""
    for name in ("shop", "legal", "admin"):
        monkeypatch.setenv(f"{name.upper()}_KEY", f"{name}-key")
    value = entries(provider)
    value["server"] = {"host": "0.0.0.0", "admin_key": {"env": "ADMIN_KEY"}}
    with serving(value, state_dir, address) as found:
        yield found


def test_off_loopback_whatever_is_read_asks_a_browser_for_the_admin_key(wide: Sidecar) -> None:
    for path in READ:
        for headers in ({}, basic("wrong"), basic(""), bearer("wrong"), {"cookie": "admin-key"}):
            answer = wide.http.get(path, headers=headers)
            assert (path, answer.status_code) == (path, 401)
            assert answer.headers["www-authenticate"] == CHALLENGE
        typed, sent = (wide.http.get(path, headers=how("admin-key")) for how in (basic, bearer))
        assert typed.status_code == sent.status_code != 401, path
        assert wide.http.get(f"{path.partition('?')[0]}?key=admin-key").status_code != 200 or (
            path.startswith("/readyz")
        )
    assert wide.http.get("/livez").status_code == wide.http.get("/readyz").status_code == 200
    assert wide.http.get("/readyz").json() == {"ready": True, "degraded": False}


def test_a_key_that_a_browser_sends_of_itself_reads_and_never_acts(wide: Sidecar) -> None:
    typed = basic("admin-key")
    chat = {"model": "auto", "messages": [{"role": "user", "content": "x"}]}

    for path, body in (
        ("/v1/router/forget", {"user": "u"}),
        ("/v1/router/decide", chat),
        ("/v1/chat/completions", chat),
        ("/v1/feedback", {"ref": "r", "thumb": "up"}),
    ):
        for headers in (typed, basic("shop-key")):
            assert wide.http.post(path, json=body, headers=headers).status_code == 401, path
    assert wide.http.post("/v1/router/decide", json=chat, headers=bearer("admin-key")).is_success


def test_an_app_key_sees_its_own_app_alone(wide: Sidecar) -> None:
    key = basic("shop-key")

    for path in READ:
        assert wide.http.get(path, headers=key).status_code == (200 if path in OWN_TOO else 401)
    assert "app shop, 7 days" in wide.http.get("/", headers=key).text
    assert "all apps, 7 days" in wide.http.get("/", headers=basic("admin-key")).text
    assert wide.http.get("/?app=shop", headers=key).status_code == 200
    refused = wide.http.get("/?app=legal", headers=key)
    assert refused.status_code == 400
    assert "this key sees app 'shop' alone" in refused.json()["error"]["message"]
    assert wide.http.get("/?app=shop&app=legal", headers=key).status_code == 400


def test_a_key_that_was_typed_for_the_page_never_travels_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ADMIN_KEY", "admin-key")
    one = "endpoints: [{id: a, model: m, base_url: 'http://h/v1'}]\n"
    keys = Keys(compile_text(f"{one}server: {{admin_key: {{env: ADMIN_KEY}}}}", file="f"))

    def passed(headers: dict[str, str]) -> tuple[tuple[bytes, bytes], ...]:
        return keys.caller({k.encode(): v.encode() for k, v in headers.items()}).credentials

    theirs = basic("their-own", user="them")
    assert passed(basic("admin-key")) == ()
    assert passed(theirs) == ((b"authorization", theirs["authorization"].encode()),)
    assert len(passed({"authorization": "Basic ???"})) == 1


def test_on_loopback_the_page_is_there_without_a_key_and_for_no_page_from_elsewhere(
    sidecar: Sidecar,
) -> None:
    sidecar.chat()
    answer = sidecar.http.get("/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "To stop routing: <code>pointsman off</code>" in answer.text
    assert sidecar.http.get("/", headers={"host": "evil.example"}).status_code == 403
    assert sidecar.http.get("/", headers={"origin": "http://evil.example"}).status_code == 403
    assert sidecar.http.post("/").status_code == 405
    assert sidecar.http.get("/?nonsense=1").status_code == 400
    assert sidecar.http.get("/task/nonsense").status_code == 400
    assert sidecar.http.get("/readyz?verbose").json()["ready"] is True


def test_every_page_is_sent_so_that_nothing_else_gets_in(sidecar: Sidecar) -> None:
    decision = sidecar.chat().headers["x-router-decision-id"]

    for path in ("/", "/task/code", f"/decision/{decision}", "/page.js"):
        answer = sidecar.http.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        if path != "/page.js":
            policy = answer.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            for part in GUARDS:
                assert part in policy
            assert "unsafe" not in policy
    assert "Candidates" in sidecar.http.get(f"/decision/{decision}").text
    assert sidecar.http.get("/decision/nonsense").status_code == 404


def test_paths_of_the_page_are_its_own_and_those_below_a_version_are_not() -> None:
    assert normal_path(b"/task/code.review") == "/task/code.review"
    assert normal_path(b"/task/a%2Fb") == "/task/a/b"  # a task may be called so
    assert normal_path(b"/decision/rd_x/") == "/decision/rd_x"
    assert normal_path(b"/page.js") == "/page.js"
    assert normal_path(b"/v1/task/code") == "/v1/task/code"
    assert normal_path(b"/task") == "/v1/task"


def test_the_file_is_the_page_and_holds_no_script(
    provider: Provider, tmp_path: Path, state_dir: Path, store: Any, address: Address
) -> None:
    config, file = tmp_path / "pointsman.yaml", tmp_path / "report.html"
    value = {
        "endpoints": [endpoint(provider, "a")],
        "store": {"url_env": "STORE_URL"},
        "server": {"state_dir": str(state_dir)},
    }
    config.write_text(httpx.Response(200, json=value).text)

    said = pointsman("report", "--html", file, "--config", config,
                     environment={"STORE_URL": address.url})  # fmt: skip

    assert said.exit_code == 0, said.output
    assert "<h1>" in file.read_text()
    assert "<script" not in file.read_text()

    both = pointsman("report", "--json", "--html", file, "--config", config,
                     environment={"STORE_URL": address.url})  # fmt: skip
    assert both.exit_code == 0, both.output
    assert json.loads(both.stdout)["page"]["sentences"]
    assert pointsman("report", "--json", "--html", "-", "--config", config).exit_code == 2


# -- the desk -------------------------------------------------------------------------------------


class Told:
    """What the desk answers, and what it asked for."""

    def __init__(self, of: Configuration) -> None:
        self.beliefs: Any = type("Believed", (), {"configuration": of})()
        self.n_made, self.at_once, self.most_at_once, self.fails = 0, 0, 0, False
        self.now_s = 100.0
        self._lock = threading.Lock()
        self.desk = PageDesk(
            self.page_of, None, is_off=lambda: False, clock=lambda: self.now_s  # type: ignore[arg-type]
        )  # fmt: skip

    def page_of(self, beliefs: Beliefs, wish: PageWish, own: App | None) -> FoundPage:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.n_made += 1
        try:
            if self.fails:
                raise redis.ConnectionError("gone")
            return FoundPage(replace(pages.DEMO, scope=wish.scope))
        finally:
            with self._lock:
                self.at_once -= 1

    async def ask(self, query: bytes = b"") -> str:
        return (await self.desk._page("/", query, self.beliefs, None)).decode()


@pytest.fixture
def told() -> Told:
    text = "endpoints: [{id: a, model: m, base_url: 'http://h/v1'}]\ntasks: {code: , chat: }\n"
    return Told(compile_text(text, file="f"))


def test_however_many_watch_a_page_it_is_made_once_in_a_while_and_one_at_a_time(
    told: Told,
) -> None:
    async def watched() -> None:
        await asyncio.gather(*(told.ask() for _ in range(50)))
        assert told.n_made == 1
        await asyncio.gather(*(told.ask(f"since={n}d".encode()) for n in range(1, 60)))
        assert (told.n_made, told.most_at_once) == (60, 1)
        told.now_s += 3.1
        await told.ask(b"since=59d")
        assert told.n_made == 61
        assert len(told.desk._kept) <= 32

    asyncio.run(watched())


def test_where_the_store_is_away_the_last_page_is_shown_with_its_time(told: Told) -> None:
    async def watched() -> tuple[str, str, str]:
        whole = await told.ask()
        told.fails = True
        told.now_s += 10
        first = await told.ask()
        told.now_s += 10
        return whole, first, await told.ask(b"since=3d")

    whole, last, nothing = asyncio.run(watched())

    assert "the store is away" not in whole
    for page in (last, nothing):
        assert "the store is away" in page
    assert "deepinfra/llama-3.3-70b" in last
    assert "figures are as of" in last
    assert "Nothing can be shown: the store is away." in nothing
