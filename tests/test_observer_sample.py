"""`signals: {sample: SHARE}`: labels are read off a share of conversations, each whole or not."""

from __future__ import annotations

import html
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, ROUTED, Provider, Reply, Sidecar, endpoint, serving
from structlog.testing import capture_logs
from test_dialect_streams import PARSERS
from test_signals import calling

from bandit.families import D
from router.config.entries import AppEntry
from router.dispatch.sampling import is_within, opening
from telemetry.store import Address
from telemetry.writer import Writer
from workers.observer.__main__ import _begins

SECRET = b"s" * 32
N = 20_000
N_EACH = 16
"""Of so many all are in, or all out, once in thirty thousand times."""


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_the_share_holds(share: float) -> None:
    """Within four standard errors, over random conversations."""
    rng = random.Random(5)

    n = sum(is_within(share, rng.randbytes(24), SECRET) for _ in range(N))

    assert abs(n - share * N) < 4 * math.sqrt(N * share * (1 - share))


def test_a_larger_share_holds_all_that_a_smaller_one_does() -> None:
    conversations = [number.to_bytes(8, "little") for number in range(500)]

    for one in conversations:
        found = [is_within(share, one, SECRET) for share in (0.1, 0.4, 0.7, 1.0)]
        assert found == sorted(found)
        assert found[-1]


def test_another_store_takes_others() -> None:
    conversations = [number.to_bytes(8, "little") for number in range(500)]

    ours, theirs = ({c for c in conversations if is_within(0.5, c, s * 32)} for s in (b"a", b"b"))

    assert 80 < len(ours & theirs) < 170


def marked(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]


TURNS: dict[str, list[dict[str, Any]]] = {
    "chat/completions": [
        {
            "messages": [
                {"role": "system", "content": "now 10:00"},
                {"role": "user", "content": "a"},
            ]
        },
        {
            "messages": [
                {"role": "system", "content": "now 10:05"},
                {"role": "user", "content": [{"type": "text", "text": "a"}]},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ]
        },
    ],
    "messages": [
        {"max_tokens": 9, "messages": [{"role": "user", "content": marked("a")}]},
        {
            "max_tokens": 9,
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": marked("c")},
            ],
        },
    ],
    "responses": [
        {"input": "a"},
        {
            "input": [
                {"role": "user", "content": "a"},
                {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "x", "output": "3"},
            ]
        },
        {"input": [{"role": "user", "content": "a"}, {"role": "user", "content": "c"}]},
    ],
}


def opening_of(path: str, said: dict[str, Any]) -> bytes:
    return opening(PARSERS[path](json.dumps({"model": "m", **said}).encode()))


@pytest.mark.parametrize("path", TURNS)
def test_a_conversation_without_a_session_is_known_by_its_first_words(path: str) -> None:
    found = {opening_of(path, turn) for turn in TURNS[path]}
    other = json.loads(json.dumps(TURNS[path][1]).replace('"a"', '"z"'))

    assert len(found) == 1
    assert opening_of(path, other) not in found


def test_turns_of_a_conversation_at_the_provider_are_one() -> None:
    turns = [{"input": said, "conversation": "conv_1"} for said in ("a", "b")]

    first, second = (opening_of("responses", turn) for turn in turns)

    assert first == second
    assert first != opening_of("responses", {"input": "a", "conversation": "conv_2"})


@pytest.mark.parametrize(
    ("said", "sample"), [(True, 1.0), (False, None), ({"sample": 0.2}, 0.2), ({"sample": 1}, 1.0)]
)
def test_signals_are_a_switch_or_a_share(said: Any, sample: float | None) -> None:
    assert AppEntry.model_validate({"signals": said}).signals_sample == sample


@pytest.mark.parametrize("said", [{"sample": 0}, {"sample": 1.1}, {}, {"share": 0.2}, 0.2])
def test_what_is_no_share_is_refused(said: Any) -> None:
    with pytest.raises(ValueError, match="signals"):
        AppEntry.model_validate({"signals": said})


def told(sidecar: Sidecar, session: str, text: str) -> bool:
    """Make a call; return whether the observer was told of it, and check that it was counted."""
    observer = sidecar.app.observer
    assert observer is not None
    before = observer.n_told, observer.n_sampled_out
    headers = {"x-router-session-id": session} if session else {}
    assert sidecar.chat(text=text, headers=headers).status_code == 200
    n_told, n_left_out = observer.n_told - before[0], observer.n_sampled_out - before[1]
    assert (n_told, n_left_out) in ((1, 0), (0, 1))
    return n_told == 1


@pytest.mark.slow
@pytest.mark.usefixtures("store")
def test_a_conversation_is_wholly_in_or_out_over_restarts_and_routers(
    provider: Provider, tmp_path: Path, address: Address, learner: Any
) -> None:
    provider.on("a", Reply(body=calling('{"id": 1}')))
    value = {
        "endpoints": [endpoint(provider, "a")],
        "strategies": LEARN,
        "apps": {"default": {**ROUTED["default"], "signals": {"sample": 0.5}}},
    }
    sessions = [*(f"s{number}" for number in range(N_EACH)), *[""] * N_EACH]
    asked = [(session, f"tell me of {number}") for number, session in enumerate(sessions)]
    one, other = tmp_path / "one", tmp_path / "other"

    with (
        serving(value, one, address, observing=True) as first,
        serving(value, other, address, observing=True) as second,
    ):
        found = [[told(first, *each) for each in asked], [told(second, *each) for each in asked]]
    with serving(value, one, address, observing=True) as again:
        found.append([told(again, *each) for each in asked])
        n_told = sum(map(sum, found))

        again.until(lambda: again.app.keeper.current.posterior.calls.sum() == 3 * len(asked))
        seen = again.app.keeper.current.posterior.evidence.derived[..., D.SEEN].sum()
        metrics = again.http.get("/metrics").text
        report = again.http.get("/v1/router/report").json()
        page = html.unescape(again.http.get("/").text).replace("\u00a0", " ")

    assert found[0] == found[1] == found[2]
    for kind in (found[0][:N_EACH], found[0][N_EACH:]):
        assert 0 < sum(kind) < len(kind)
    assert seen == pytest.approx(n_told, rel=0.05)  # the flag of an outcome says the same
    # What came of it is told of all of them: before the restart, and by the other router, too.
    (line,) = report["page"]["tasks"]
    assert line["sampled"]["share"] == 0.5
    assert line["sampled"]["calls_read"] == pytest.approx(n_told / (3 * len(asked)), rel=0.05)
    assert report["sampled"] == [{"app": "default", "task": "general", **line["sampled"]}]
    assert "labels are read off 50 % of the app's conversations, of late off" in page
    left_out = len(asked) - sum(found[2])
    assert f"router_observations_sampled_out {left_out}" in metrics.replace(".0\n", "\n")


def test_a_share_that_is_written_bare_is_told_where_it_belongs() -> None:
    with pytest.raises(ValueError, match=r"write true or false, or \{sample: …\}"):
        AppEntry.model_validate({"signals": 0.5})


def test_an_observer_without_room_says_what_helps_and_ends(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It broke off before, as if the fault were our own."""

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with capture_logs() as said:
        assert not _begins(Writer(tmp_path / "journal", address, 1, decides=False))

    (line,) = said
    assert line["reason"] == "No space left on device"
    assert "make room" in line["fix"]
