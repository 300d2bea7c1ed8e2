"""The scripted agent behind two endpoints of a sidecar, for kits that work with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from conftest import Sidecar, serving
from test_dialects import records

from scripts.kits.agent import NOTES
from scripts.kits.agent_provider import AgentProvider, agent_provider
from scripts.kits.run import configuration
from telemetry.events import Kind
from telemetry.store import Address

WORD = "word-0123abcd"
DIALECTS = ["chat", "messages", "responses"]


@contextmanager
def agent_at_work(
    state_dir: Path, address: Address, *, falls: bool = False
) -> Iterator[tuple[Sidecar, AgentProvider]]:
    """A sidecar over two endpoints that speak every dialect; the notes lie in `state_dir`."""
    (state_dir / NOTES).write_text(WORD + "\n")
    with agent_provider() as provider:
        provider.begin(str(state_dir), falls=falls)
        value = configuration("chat", provider)
        for entry in value["endpoints"]:
            entry["dialects"] = DIALECTS
        with serving(value, state_dir, address) as sidecar:
            yield sidecar, provider


def hosts(provider: AgentProvider) -> list[str]:
    """Who answered, in this order."""
    return list(dict.fromkeys(call.host for call in provider.calls if call.answer))


def booked_tokens(sidecar: Sidecar, address: Address) -> Counter[str]:
    """Tokens in the books by endpoint."""
    by_digest = {sidecar.digest(name): name for name in ("one", "two")}
    found = records(address)
    found = found[found["kind"] == Kind.OUTCOME]
    counts: Counter[str] = Counter()
    for record in found[np.isin(found["token"]["executed"], list(by_digest))]:
        name = by_digest[int(record["token"]["executed"])]
        counts[name] += int(record["tokens_in"]) + int(record["tokens_out"])
    return counts


def told_tokens(provider: AgentProvider) -> Counter[str]:
    """The same, as the hosts told them."""
    counts: Counter[str] = Counter()
    for call in provider.calls:
        counts[call.host] += call.n_tokens
    return counts
