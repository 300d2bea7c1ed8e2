"""The endpoints, apps and tasks of the proof of steadiness, and how good each endpoint is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

from router.endpoints.breaker import RULES, Trouble
from scripts.proofs.provider import ProviderRequest, Send, Step
from scripts.proofs.replies import error, head, whole
from scripts.proofs.steady_requests import REVIEW, SUPPORT
from scripts.proofs.told_answers import ToldAnswer, dialect_of

ABLE, BROAD, CALM, SHORT = ENDPOINTS = ("able", "broad", "calm", "short")
LEARNING, GUARDED = ("learning", "learning-too"), ("guarded", "guarded-too")
APPS = (*LEARNING, *GUARDED)
"""Names of apps, and their keys."""
TRUSTED = BROAD
"""The one endpoint that takes what is confidential."""
QUALITY: Mapping[str, float] = {ABLE: 0.55, BROAD: 0.75, CALM: 0.9, SHORT: 0.6}
"""How often an answer is good: apart by so much that draws move while the proof runs."""
SHORT_TOKENS, USUAL_TOKENS = 4096, 128_000
FAILED_IN = 150
"""One attempt of so many fails."""
REFUSAL = 503
"""What a failure is told by; where nobody else may serve, to the client as well."""
PATIENT_S = 60.0
"""Nobody is started beside an endpoint that is slow because this machine is busy."""


def configuration(provider: str, keys: Path) -> dict[str, Any]:
    """Return the configuration that both processes have.

    Args:
        keys: a directory for the apps' keys; it is made.
    """
    keys.mkdir(parents=True)
    for app in APPS:
        (keys / app).write_text(app)
    return {
        "providers": {
            "loopback": {
                "base_url": f"{provider}/v1",
                "auth": "none",
                "dialects": ["chat", "messages", "responses"],
            }
        },
        "models": {
            name: {"context_tokens": SHORT_TOKENS if name == SHORT else USUAL_TOKENS}
            for name in ENDPOINTS
        },
        "endpoints": [_endpoint(name) for name in ENDPOINTS],
        "tasks": {
            "extract": {"match": {"schema": True}},
            "code": {"match": {"tools": ["run_tests"]}},
            "review": {"match": {"system": [REVIEW, "review"]}},
            "support": {"match": {"system": [SUPPORT, "support desk"]}},
        },
        "strategies": {
            "learn": {"objective": "quality", "incumbent": "none"},
            "guard": {"objective": "quality", "incumbent": ABLE, "release_every_s": 5},
        },
        "apps": {app: _app(app, keys / app) for app in APPS},
    }


def _endpoint(name: str) -> dict[str, Any]:
    limits = {"first_token_s": PATIENT_S, "answer_s": PATIENT_S}
    beside = {"first_token": PATIENT_S, "answer": PATIENT_S}
    trusted = {"zone": "local", "max_data_class": "confidential"} if name == TRUSTED else {}
    return {
        "id": name,
        "model": name,
        "provider": "loopback",
        "prices": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 2},
        "timeouts": limits | {"beside_s": beside},
        **trusted,
    }


def _app(name: str, key: Path) -> dict[str, Any]:
    return {
        "keys": [{"file": str(key)}],
        "mode": "route",
        "strategy": "learn" if name in LEARNING else "guard",
        "fallback": "any",
    }


class SteadyProvider:
    """Answers in every dialect, and fails now and then; one endpoint is out for a while."""

    def __init__(self) -> None:
        self.out: set[str] = set()  # endpoints that refuse everything now
        self.down_at: dict[str, list[float]] = {name: [] for name in ENDPOINTS}  # monotonic s
        self._in_a_row: Counter[str] = Counter()
        self.n_answers = 0

    def __call__(self, request: ProviderRequest) -> list[Step]:
        """Return what one attempt gets."""
        model = request.model
        if model in self.out or _luck(request) % FAILED_IN == 0:
            self._in_a_row[model] += 1
            if self._in_a_row[model] >= RULES[Trouble.FAILING].failures:
                self.down_at[model].append(request.at)
            return [whole(REFUSAL, error("overloaded"))]
        self._in_a_row[model] = 0
        self.n_answers += 1
        tokens_in = len(str(request.body)) // 5
        answer = ToldAnswer(f"answer-{self.n_answers}", model, "a pilot counts", tokens_in, 4)
        dialect = dialect_of(request.path)
        media_type, body = answer.bytes_in(dialect, streamed=request.streamed)
        named = [("content-type", media_type), ("content-length", str(len(body)))]
        return [Send(head(200, named) + body)]

    def was_down(self, endpoint: str, since: float, until: float) -> bool:
        """Return whether an endpoint failed as often as opens a breaker, in monotonic seconds."""
        return any(since <= at <= until for at in self.down_at[endpoint])


def _luck(request: ProviderRequest) -> int:
    digest = blake2b(f"{request.body}{request.model}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")
