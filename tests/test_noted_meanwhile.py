"""What a call leaves for while its provider works: it is done once, whatever comes of the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Provider, Reply, endpoint, serving

from router.dispatch.call import Calls
from telemetry.store import Address


@pytest.mark.parametrize("down", ["", "a", "ab"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_decision_is_noted_once_and_then_who_else_answered(
    provider: Provider,
    state_dir: Path,
    address: Address,
    down: str,
    streamed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for host in down:
        provider.on(host, Reply(status=401, body=b"{}"))
    noted: list[Any] = []
    build = Calls.__init__

    def noting(self: Calls, *given: Any, **named: Any) -> None:
        put = named["note"]

        def note(decision: Any, answered: Any, kind: Any) -> None:
            noted.append((decision.nonce, answered and answered.id))
            put(decision, answered, kind)

        build(self, *given, **{**named, "note": note})

    monkeypatch.setattr(Calls, "__init__", noting)
    sections = {
        "endpoints": [endpoint(provider, name) for name in "ab"],
        "apps": {"default": {"mode": "observe", "fallback": "any"}},
    }
    with serving(sections, state_dir, address) as sidecar:
        asks = [{"role": "user", "content": "hi"}]
        body = {"model": "auto", "stream": streamed, "messages": asks}
        got = sidecar.http.post("/v1/chat/completions", json=body)
        metrics = sidecar.http.get("/metrics").text

    assert (got.status_code == 200) == (down != "ab")
    assert [answered for _, answered in noted] == [None, "b"][: 2 if down == "a" else 1]
    assert len({nonce for nonce, _ in noted}) == 1
    if down != "ab":
        assert noted[0][0].hex() == got.headers["x-request-id"]
    assert "router_decide_seconds_count 1.0" in metrics
