"""What derived labels find: an endpoint with faults, and nothing on healthy traffic.

Simulated calls go through the observer's own code and the learner's own fold; what is judged is
the posterior of the usable share. No process, no store, no clock: time is made up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bandit import cells
from bandit.derived import checked
from bandit.posterior import Arms, infer
from scripts.benches.derived_traffic import KINDS, SimulatedCall, faulty_traffic, healthy_traffic
from telemetry import events
from telemetry.decoding import decode
from telemetry.events import FeedbackKind, Flag, Result
from telemetry.tokens import Token
from workers.folding.batch import Batch, Decision
from workers.folding.effects import NO_HISTORY, effects
from workers.observer import rewards
from workers.observer.rewards import DerivedLabel, Memory, ObservedCall

START_S = 1_800_000_000.0
DAY_MS = 86_400_000
BATCH = 256
"""Records that are folded at once, as many as a frame holds."""
N_ENDPOINTS = 4
FAULTY = 1
EVERY = 100
"""Calls between two looks."""
SURE = 0.95
DRAWS = 4000


@dataclass(slots=True)
class SimulatedLoop:
    """The observer and the learner, one after the other."""

    memory: Memory = field(default_factory=lambda: Memory(b"a salt of this bench"))
    labels: dict[Decision, bytes | None] = field(default_factory=dict)
    terms: list[cells.Terms] = field(default_factory=list)
    waiting: list[bytes] = field(default_factory=list)
    said: list[DerivedLabel] = field(default_factory=list)
    n_calls: int = 0

    def take(self, call: SimulatedCall) -> None:
        """Let a call end: its outcome and what is read off it are folded."""
        token = _token(self.n_calls, call)
        self.n_calls += 1
        flags = int(Flag.FINAL | (Flag.READ if call.answered else 0))
        result = Result.OK if call.answered else Result.CLIENT_GONE
        self.waiting.append(
            events.outcome(token, result=result, attempt=1, status=200, flags=flags, latency_s=1.0)
        )
        for label in rewards.derive(_observed(token, call), self.memory):
            self.said.append(label)
            self.waiting.append(_feedback(label, len(self.said)))
        if len(self.waiting) >= BATCH:
            self.fold()

    def fold(self) -> None:
        """Fold what waits, as the learner would."""
        if not self.waiting:
            return
        records, bad = decode(b"".join(self.waiting))
        assert not bad
        batch = Batch(records, records["token"]["decided_at_ms"] // DAY_MS)
        found = effects(batch, {d: self.labels.get(d) for d in batch.decisions(NO_HISTORY)})
        self.labels |= found.labels
        self.terms = [cells.merge([*self.terms, found.terms])]
        self.waiting.clear()

    def look(self, now_s: float) -> list[dict[str, Any]]:
        """Return what is believed of every endpoint for every kind of traffic."""
        self.fold()
        evidence = cells.read(
            cells.merge(self.terms),
            categories=np.arange(1, len(KINDS) + 1, dtype=np.uint64),
            endpoints=np.arange(1, N_ENDPOINTS + 1, dtype=np.uint64),
            now_ms=int((START_S + now_s) * 1000),
        )
        posterior = infer(evidence, _arms())
        valid, invalid = posterior.reliability.valid, posterior.reliability.invalid
        seen, faults = checked(evidence.derived)
        rng = np.random.default_rng(0)
        rows = []
        for c, kind in enumerate(KINDS):
            # What never failed has nothing to draw.
            drawn = 1 - rng.beta(np.maximum(invalid[c], 1e-9), valid[c], (DRAWS, N_ENDPOINTS))
            for e in range(N_ENDPOINTS):
                others = [o for o in range(N_ENDPOINTS) if o != e]
                worse = (drawn[:, [e]] < drawn[:, others]).mean(axis=0)
                rows.append(
                    {
                        "kind": kind,
                        "endpoint": e,
                        "seen": round(float(seen[c, e]), 1),
                        "faults": round(float(faults[c, e]), 1),
                        "usable": float(posterior.reliability.usable[c, e]),
                        "p_worse": float(worse.min()),  # than each of the others
                    }
                )
        return rows


def find_faults(
    n_calls: int = 2000, *, rate: float = 0.02, at: int | None = FAULTY, seed: int = 0
) -> dict[str, Any]:
    """Return when an endpoint with faults was found, and what was believed in the end.

    Args:
        rate: of each fault by itself.
        at: where they happen; None is everywhere.
    """
    loop, found_after, wrongly = SimulatedLoop(), dict.fromkeys(KINDS, 0), 0
    traffic = faulty_traffic(np.random.default_rng(seed), N_ENDPOINTS, rate=rate, at=at)
    now_s = 0.0
    rows: list[dict[str, Any]] = []
    while loop.n_calls < n_calls:
        call = next(traffic)
        loop.take(call)
        now_s = call.ended_at_s
        if loop.n_calls % EVERY:
            continue
        rows = loop.look(now_s)
        for row in rows:
            sure = row["p_worse"] >= SURE
            if row["endpoint"] != at:
                wrongly += sure
            elif sure and not found_after[row["kind"]]:
                found_after[row["kind"]] = loop.n_calls
    return {"found_after": found_after, "wrongly": wrongly, "rows": rows}


def healthy(n_conversations: int = 10_000, *, seed: int = 0) -> dict[str, Any]:
    """Return what is believed after healthy conversations, many of them alike."""
    traffic = healthy_traffic(np.random.default_rng(seed), N_ENDPOINTS, n_conversations)
    return run(traffic)


def run(traffic: Iterable[SimulatedCall]) -> dict[str, Any]:
    """Return what is believed once all of the calls were folded, and the labels that stand."""
    loop, now_s = SimulatedLoop(), 0.0
    for call in traffic:
        loop.take(call)
        now_s = max(now_s, call.ended_at_s)
    standing: dict[bytes, DerivedLabel] = {label.decision: label for label in loop.said}
    bad = [label.source.name for label in standing.values() if label.value == 0.0]
    rows = [row for row in loop.look(now_s) if row["seen"]]
    return {"calls": loop.n_calls, "bad": {name: bad.count(name) for name in bad}, "rows": rows}


def run_bench() -> dict[str, Any]:
    """Return all figures: faults at one endpoint, none anywhere, healthy conversations."""
    return {
        "faults": find_faults(),
        "no_faults": find_faults(at=FAULTY, rate=0.0),
        "healthy": healthy(),
    }


def print_figures(found: dict[str, Any], show: Callable[[str], None] = print) -> None:
    """Print the figures as lines."""
    for name, of in found.items():
        rest = {key: value for key, value in of.items() if key != "rows"}
        show(f"{name}: {rest}")
        for row in of["rows"]:
            show(
                f"  {row['kind']:<7} {row['endpoint']}  seen {row['seen']:>7}  faults "
                f"{row['faults']:>6}  usable {row['usable']:.4f}  p_worse {row['p_worse']:.3f}"
            )


def _arms() -> Arms:
    each = np.arange(N_ENDPOINTS)
    return Arms(each, each, np.ones(N_ENDPOINTS), np.ones(N_ENDPOINTS))


def _token(number: int, call: SimulatedCall) -> bytes:
    return Token(
        key_id=1,
        shard=0,
        flags=0,
        nonce=(number + 1).to_bytes(16, "big"),
        decided_at_ms=int((START_S + call.began_at_s) * 1000),
        category=KINDS.index(call.kind) + 1,
        drawn=call.endpoint + 1,
        executed=call.endpoint + 1,
        strategy=1,
        app=1,
        release_key=1,
        session=1,
        propensity=1.0,
        predicted=0.0,
        predicted_sd=0.0,
    ).pack()


def _observed(token: bytes, call: SimulatedCall) -> ObservedCall:
    return ObservedCall(
        decision=token,
        app=b"app",
        unit=call.unit,
        stateless=False,
        began_at_s=START_S + call.began_at_s,
        ended_at_s=START_S + call.ended_at_s,
        answered=call.answered,
        streamed=False,
        dialect="chat",
        request=call.request,
        answer=call.answer,
        in_session=call.in_session,
    )


def _feedback(label: DerivedLabel, number: int) -> bytes:
    return events.feedback(
        label.decision,
        kind=FeedbackKind.DERIVED,
        value=label.value,
        revision=label.revision,
        event=number.to_bytes(10, "big") + bytes(6),
        source=label.source,
        rules=rewards.VERSION,
        chain=label.chain,
    )
