"""What a provider would take, we take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, endpoint, serving

from router.dialects import chat
from router.policy.hints import MAX_HINT, read_hints, short_name
from telemetry.store import Address


def parsed(**more: Any) -> chat.ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **more}
    return chat.parse(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("value", "meant"), [(100, 100), (100.0, 100), (None, None), ("hot", None), (1.5, None),
                         (True, None), (1e300, None)]
)  # fmt: skip
def test_a_number_is_read_in_whatever_form_it_comes(value: Any, meant: int | None) -> None:
    assert parsed(max_tokens=value).output_limit == meant
    assert parsed(max_completion_tokens=value).output_limit == meant


@pytest.mark.parametrize(("value", "meant"), [(1.0, 1), (3, 3), (0, 1), ("x", 1), (None, 1)])
def test_so_is_the_number_of_choices(value: Any, meant: int) -> None:
    assert parsed(n=value).n_choices == meant


@pytest.mark.parametrize(
    ("value", "meant"), [(123, "123"), ("u", "u"), ("", None), (True, None), ([], None)]
)
def test_a_user_may_be_a_number(value: Any, meant: str | None) -> None:
    assert parsed(user=value).declared.user == meant


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_a_form_of_json_is_asked_for_either_way(kind: str) -> None:
    request = parsed(response_format={"type": kind})

    assert request.structure(read_system=False).has_schema
    assert not parsed(response_format={"type": "text"}).structure(read_system=False).has_schema


def test_long_names_go_by_their_hash_and_stay_apart() -> None:
    long = ["x" * MAX_HINT, "x" * (MAX_HINT + 1), "x" * (MAX_HINT + 2), "y" * 5000]

    short = [short_name(name) for name in long]

    assert short[0] == long[0]
    assert len(set(short)) == 4
    assert all(len(name) <= MAX_HINT for name in short)
    hints = read_hints({b"x-router-session-id": long[2].encode()}, parsed(user=long[3]).declared)
    assert hints.session == short[2]
    assert hints.user == short[3]


def test_odd_values_reach_the_provider_as_they_came(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    body = (
        b'{"model": "a", "messages": [{"role": "user", "content": "x"}], "max_tokens": 100.0,'
        b' "n": 1.0, "user": 123, "seed": 12345678901234567890123}'
    )
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        assert sidecar.http.post("/v1/chat/completions", content=body).status_code == 200

    assert provider.calls[0].body == body


def test_feedback_finds_a_call_by_a_long_reference(
    provider: Provider, state_dir: Path, address: Address, learner: Any
) -> None:
    reference = "r" * 400
    with serving({"endpoints": [endpoint(provider, "a")]}, state_dir, address) as sidecar:
        assert sidecar.chat(headers={"x-router-ref": reference}).status_code == 200
        assert sidecar.feedback(ref=reference, passed=True).status_code == 202
        sidecar.until(lambda: sidecar.labels_known() == 1)
