"""What `pointsman up` says once it listens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from router.commands.greeting import greeting_of
from router.commands.supervisor import PORT
from router.config.file import parse

CHAT = {"id": "a", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
BOTH = {**CHAT, "translate": {"from": ["messages"]}}
KEY = "sha256:" + "a" * 64


def greeting(*endpoints: dict[str, Any], **sections: Any) -> str:
    text = yaml.safe_dump({"endpoints": list(endpoints), **sections})
    return greeting_of(parse(text, file="x"), Path("/state"))


def test_each_kind_of_client_gets_the_line_to_paste_with_the_real_port() -> None:
    said = greeting(BOTH).replace(PORT, "4711")

    assert "OPENAI_BASE_URL=http://127.0.0.1:4711/v1 " in said
    assert "ANTHROPIC_BASE_URL=http://127.0.0.1:4711 " in said
    assert 'OpenAI(base_url="http://127.0.0.1:4711/v1", api_key="any")' in said
    assert "/state" in said


def test_a_client_that_nobody_here_serves_gets_no_line() -> None:
    messages = {**CHAT, "dialects": ["messages"]}
    provider = {"base_url": "http://x", "passthrough": {"dialects": ["messages"]}}

    assert "ANTHROPIC_BASE_URL" not in greeting(CHAT)
    assert "OPENAI_BASE_URL" not in greeting(messages)
    assert "ANTHROPIC_BASE_URL" in greeting(CHAT, providers={"p": provider})


def test_an_app_with_keys_says_that_one_is_needed() -> None:
    said = greeting(BOTH, apps={"shop": {"keys": [KEY]}})

    assert "app shop has keys" in said
    assert 'api_key="any"' not in said


def test_where_the_callers_key_travels_on_nobody_is_told_that_any_will_do() -> None:
    assert 'api_key="any"' not in greeting({**BOTH, "auth": "client"})


@pytest.mark.parametrize(("host", "shown"), [("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_is_one_that_can_be_called(host: str, shown: str) -> None:
    said = greeting(BOTH, server={"host": host}, apps={"shop": {"keys": [KEY]}})

    assert set(re.findall(r"http://(\S+?):\{port\}", said)) == {shown}
