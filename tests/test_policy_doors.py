"""What the policy forbids is not sent, whatever happened before or happens meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from router.config.compiled import Configuration, compile_text
from scripts.proofs.policy_clock import MovableClock
from scripts.proofs.within import GivenAnswer, SentRequest, SidecarWithin

COUNT, MESSAGES, CHAT = "/v1/messages/count_tokens", "/v1/messages", "/v1/chat/completions"
LEASED = {"max_data_class": "restricted", "agreement": {"until": "2026-03-02"}}


def configuration(state_dir: Path, *endpoints: dict[str, Any], **app: Any) -> Configuration:
    value = {
        "server": {"state_dir": str(state_dir)},
        "endpoints": [
            {"model": "m", "base_url": f"http://{one['id']}.test/v1", **one} for one in endpoints
        ],
        "apps": {"default": {"mode": "route", "strategy": "quality", **app}},
    }
    return compile_text(yaml.safe_dump(value), file="t.yaml")


def sent(path: str, **headers: str) -> SentRequest:
    body = {"model": "auto", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]}
    named = {f"x-router-{name.replace('_', '-')}": value for name, value in headers.items()}
    return SentRequest(path, named, json.dumps(body).encode())


class Hosts(httpx.AsyncBaseTransport):
    """Answers as it is told, and remembers who was asked."""

    def __init__(self, answer: Callable[[str], httpx.Response]) -> None:
        self.asked: list[str] = []
        self._answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.host.removesuffix(".test")
        self.asked.append(host)
        return self._answer(host)


def played(
    of: Configuration, state_dir: Path, hosts: Hosts, *requests: SentRequest
) -> list[GivenAnswer]:
    async def play() -> list[GivenAnswer]:
        with SidecarWithin(of, state_dir, hosts) as within:
            return [await within.send(request) for request in requests]

    return asyncio.run(play())


def message(_: str) -> httpx.Response:
    text = [{"type": "text", "text": "hello"}]
    usage = {"input_tokens": 1, "output_tokens": 1}
    shape = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    return httpx.Response(200, json={**shape, "content": text, "stop_reason": None, "usage": usage})


def test_a_prompt_is_not_counted_where_its_session_was_and_it_may_not_go(state_dir: Path) -> None:
    of = configuration(state_dir, {"id": "open", "dialects": ["messages"]})
    hosts = Hosts(message)

    first, count = played(
        of,
        state_dir,
        hosts,
        sent(MESSAGES, session_id="s"),
        sent(COUNT, session_id="s", data_class="confidential"),
    )

    assert (first.status, count.status) == (200, 409)
    assert hosts.asked == ["open"]


def test_an_agreement_that_ends_during_a_call_keeps_its_endpoint_out_of_the_fallbacks(
    state_dir: Path,
) -> None:
    clock = MovableClock()

    def fail_until_tomorrow(host: str) -> httpx.Response:
        clock.move_to_next_day()
        return httpx.Response(500)

    def fail_at_once(host: str) -> httpx.Response:
        return httpx.Response(500)

    endpoints = (
        {"id": "own", "max_data_class": "restricted"},
        {"id": "leased", "model": "n", **LEASED},
    )
    for answer, asked in ((fail_at_once, {"own", "leased"}), (fail_until_tomorrow, {"own"})):
        clock.set_back()
        hosts = Hosts(answer)
        with clock.installed():
            of = configuration(state_dir, *endpoints, data_class="confidential")
            played(of, state_dir, hosts, sent(CHAT))
        assert set(hosts.asked) == asked


def test_an_endpoint_that_may_not_have_a_call_any_more_is_not_asked_again(state_dir: Path) -> None:
    clock = MovableClock()

    def fail_until_tomorrow(host: str) -> httpx.Response:
        clock.move_to_next_day()
        return httpx.Response(500)

    hosts = Hosts(fail_until_tomorrow)
    with clock.installed():
        of = configuration(state_dir, {"id": "leased", **LEASED}, data_class="confidential")
        played(of, state_dir, hosts, sent(CHAT))

    assert hosts.asked == ["leased"]
