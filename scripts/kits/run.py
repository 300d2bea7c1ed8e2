"""A client's conversations through a sidecar over two endpoints, and their verdict."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.kits.agent_provider import HOSTS, MODELS, AgentProvider, ProviderCall, agent_provider
from scripts.kits.books import HostBook, booked, seen
from scripts.kits.clients import ClientProgram
from scripts.kits.compared import differences
from scripts.kits.sessions import ClientSession, run_session
from scripts.proofs.sidecar import sidecar

PRICES = {"one": (1, 2), "two": (3, 4)}
OTHERS = {
    "messages": ("chat", "chat"),
    "responses": ("chat", "messages"),
    "chat": ("messages", "messages"),
}
"""What the two endpoints speak that translate from a client's dialect."""
LEAST_ACTIONS = 2
MOST_SESSIONS = 12
"""So many at most until both endpoints were drawn: one in two thousand sees but one."""


OUTPUT_TOKENS = 64_000
"""More than any of the clients asks for."""
REASONING = {"chat": "effort", "messages": "adaptive", "responses": "effort"}
"""How the models of each dialect are told how much to think."""


@dataclass(slots=True)
class ClientRun:
    """All that was seen of one client."""

    client: ClientProgram
    translated: bool
    lenient: bool
    direct: ClientSession
    sessions: list[ClientSession] = field(default_factory=list)
    fallen: ClientSession | None = None  # its endpoint fell after the first action
    booked: dict[str, HostBook] = field(default_factory=dict)
    seen: dict[str, HostBook] = field(default_factory=dict)

    @property
    def routed(self) -> list[ClientSession]:
        """All conversations through the sidecar."""
        return [*self.sessions, *([self.fallen] if self.fallen else [])]

    @property
    def calls(self) -> list[ProviderCall]:
        """All calls of a model that came through the sidecar."""
        return [call for session in self.routed for call in session.model_calls]

    @property
    def differing(self) -> list[str]:
        """In what the first one differs from the one without a sidecar, where bytes pass."""
        if self.translated:
            return []
        return differences(self.direct.model_calls, self.sessions[0].model_calls)

    def faults(self) -> list[str]:
        """Return what is not as it should be."""
        found = [] if self.direct.answered else [f"directly: {self.direct.output}"]
        for session in self.routed:
            if session is self.fallen and self._is_bound:
                continue
            if not session.answered or session.exit_code != 0:
                found.append(f"exit code {session.exit_code}, no answer: {session.output}")
            elif min(session.n_actions, session.n_results) < LEAST_ACTIONS:
                found.append(f"{session.n_actions} actions, {session.n_results} came back")
        found += [f"went over {s.hosts}" for s in self.sessions if len(s.hosts) != 1]
        if self.fallen and len(self.fallen.hosts) != (1 if self._is_bound else len(HOSTS)):
            found.append(f"when its endpoint fell it went over {self.fallen.hosts}")
        if len({host for s in self.sessions for host in s.hosts}) < len(HOSTS):
            found.append(f"{len(self.sessions)} conversations drew one endpoint")
        asked = {(call.host, str(call.body.get("model"))) for call in self.calls}
        found += [f"{h} was asked for {m}" for h, m in sorted(asked) if MODELS[h] != m]
        if self.booked != self.seen:
            found.append(f"booked {self.booked}, seen {self.seen}")
        return found + self.differing

    @property
    def _is_bound(self) -> bool:
        """Whether nobody else can go on with what one began: an error is right there."""
        return self.client.stays and not self.translated and not self.lenient

    def figures(self) -> dict[str, Any]:
        """Return the figures, as JSON has them."""
        dialects = Counter(f"{call.host}:{call.dialect}" for call in self.calls)
        return {
            "client": self.client.name,
            "version": self.client.package.version,
            "translated": self.translated,
            "sessions": len(self.routed),
            "answered": sum(session.answered for session in self.routed),
            "turns": sum(len(session.task_calls) for session in self.routed),
            "tool_calls": sum(session.n_actions for session in self.routed),
            "tool_results": sum(session.n_results for session in self.routed),
            "sessions_by_endpoint": Counter(h for s in self.sessions for h in s.hosts[:1]),
            "calls_by_endpoint": dialects,
            "refused": Counter(call.refused for call in self.calls if call.refused),
            "moved_over": self.fallen.hosts if self.fallen else [],
            "booked_calls": sum(b.n_answered + b.n_failed for b in self.booked.values()),
            "booked_tokens": sum(b.n_tokens for b in self.booked.values()),
            "booked_usd": sum(b.cost_nano for b in self.booked.values()) / 1e9,
            "took_s_direct": round(self.direct.took_s, 1),
            "took_s": round(self.sessions[0].took_s, 1) if self.sessions else None,
            "faults": self.faults(),
        }


def configuration(
    dialect: str, provider: AgentProvider, translated: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return two endpoints in learning mode, which speak a dialect, or translate from it.

    Args:
        translated: what `translate` of an endpoint says; None: they speak it.
    """
    spoken = OTHERS[dialect] if translated else (dialect, dialect)
    endpoints: list[dict[str, Any]] = []
    for host, own in zip(HOSTS, spoken, strict=True):
        price_in, price_out = PRICES[host]
        prices = {"input_usd_per_mtok": price_in, "output_usd_per_mtok": price_out}
        entry: dict[str, Any] = {
            "id": host,
            "model": host,
            "upstream_model": MODELS[host],
            "auth": "none",
        }
        entry |= {"base_url": f"{provider.url(host)}/v1", "dialects": [own], "prices": prices}
        entry |= {"output_tokens": OUTPUT_TOKENS, "reasoning": REASONING[own]}
        endpoints.append(entry | ({"translate": dict(translated)} if translated else {}))
    return {
        "endpoints": endpoints,
        "strategies": {"learn": {"objective": "quality", "incumbent": "none"}},
        "apps": {"default": {"mode": "route", "strategy": "learn"}},
    }


def run_client(
    client: ClientProgram, installed: Path, *, n_sessions: int, translated: bool, lenient: bool
) -> ClientRun:
    """Run conversations until both endpoints had some, then one whose endpoint falls.

    Args:
        n_sessions: at least so many before that.
        translated: the endpoints speak other dialects only.
        lenient: the hosts take each other's reasoning, and items that lie at the other.
    Raises:
        DidNotStart: the sidecar never came up.
    """
    with (
        tempfile.TemporaryDirectory(prefix="pm-clients-") as directory,
        agent_provider(lenient=lenient) as host,
    ):
        direct = run_session(client, installed, host, host.url(HOSTS[0]), streamed=True)
        run = ClientRun(client, translated, lenient, direct)
        manner = {"from": [client.dialect], "drop": list(client.drop)}
        value = configuration(client.dialect, host, manner if translated else None)
        with sidecar(Path(directory), value) as running:
            url = running.url.removesuffix("/v1")
            while not _enough(run.sessions, n_sessions):
                streamed = len(run.sessions) % 2 == 0
                session = run_session(client, installed, host, url, streamed=streamed)
                run.sessions.append(session)
            run.fallen = run_session(client, installed, host, url, streamed=True, falls=True)
            run.booked = booked(running, n_expected=len(run.calls))
            run.seen = seen(run.calls, PRICES)
    return run


def _enough(sessions: Sequence[ClientSession], n_sessions: int) -> bool:
    hosts = {host for session in sessions for host in session.hosts}
    is_broken = bool(sessions) and not sessions[-1].answered
    enough = len(sessions) >= n_sessions and len(hosts) >= len(HOSTS)
    return is_broken or enough or len(sessions) >= MOST_SESSIONS
