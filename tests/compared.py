"""Records of calls that chance assigned, and the trials that they are of."""

from __future__ import annotations

from typing import Any

from telemetry import event_ids, events
from telemetry.digests import digest8
from telemetry.events import FeedbackKind, Flag, Match, Result
from telemetry.repeats import Repeat, repeated
from telemetry.tokens import Token
from telemetry.trials import Trial

DAY_MS = 86_400_000
DAY = 20_700
AT_MS = DAY * DAY_MS + 3_600_000
WEB = digest8("app", "web")
TASK, RELEASE, INC, OTHER = 21, 23, 31, 32
PRICED = int(Flag.ROUTED | Flag.USAGE_KNOWN | Flag.PRICED | Flag.FINAL)
ASSIGNED, CONTROL = int(Flag.ASSIGNED), int(Flag.ASSIGNED | Flag.CONTROL)


def token(n: int, **more: Any) -> bytes:
    told: dict[str, Any] = {"app": WEB, "at_ms": AT_MS, "unit": n, "user": 0, **more}
    return Token(
        key_id=1,
        shard=0,
        flags=int(Flag.ROUTED),
        nonce=n.to_bytes(16, "big"),
        decided_at_ms=told["at_ms"],
        category=told.get("task", TASK),
        drawn=OTHER,
        executed=OTHER,
        strategy=22,
        app=told["app"],
        release_key=told.get("release", RELEASE),
        session=told["unit"],
        propensity=0.5,
        predicted=0.5,
        predicted_sd=0.1,
        user=told["user"],
    ).pack()


def outcome(n: int, *, side: int = ASSIGNED, flags: int = PRICED, **more: Any) -> bytes:
    """One attempt of a call; by default of the challenger's side, at a tenth of a cent."""
    names = ("attempt", "cost_nano", "episode", "latency_s")
    about: dict[str, Any] = {"attempt": 1, "cost_nano": 1_000_000}
    about |= {name: more[name] for name in names if name in more}
    result = more.get("result", Result.OK)
    return events.outcome(
        token(n, **more), result=result, status=200, flags=flags | side, tokens_in=10, **about
    )


def word(n: int, value: float | None, *, revision: int = 0, **more: Any) -> bytes:
    about: dict[str, Any] = {
        "kind": more.get("kind", FeedbackKind.HUMAN),
        "match": more.get("match", Match.ONE),
    }
    about |= {"source": more["source"]} if "source" in more else {}
    event = event_ids.new_event_id(AT_MS + n)
    return events.feedback(token(n, **more), value=value, revision=revision, event=event, **about)


def asked_again(n: int, *, cost_nano: int = 1_000_000, back: bool = False, **more: Any) -> bytes:
    """The call `n` was asked once more."""
    repeat = Repeat(token(n, **more), OTHER, OTHER, cost_nano, 2.5)
    return repeated(repeat, taken_back=back)


def trial(**more: Any) -> Trial:
    told: dict[str, Any] = {
        "id": "trial0000001",
        "app": "web",
        "strategy": "best",
        "task": "code",
        "incumbent": "inc",
        "challenger": "other",
        "release_key": RELEASE,
        "began_ms": AT_MS - 1000,
        "ends_ms": AT_MS + 14 * DAY_MS,
    }
    return Trial(**{**told, **more})


def of_app(**more: Any) -> Trial:
    return trial(**{"task": "", "challenger": "", "release_key": 0, **more})
