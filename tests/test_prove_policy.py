"""The proof of `policy` proves something: broken rules are noticed, its oracle knows the rules."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
import structlog

from scripts.proofs import policy
from scripts.proofs.policy import PolicyFound, PolicyPart, prove_part
from scripts.proofs.policy_calls import FaultyCall, faulty_call
from scripts.proofs.policy_oracle import CallOracle, PolicyOracle, looser
from scripts.proofs.policy_sabotage import PolicySabotage
from scripts.proofs.policy_world import configuration, hashed

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()
DAY_S = 86_400.0
RARE = (PolicySabotage.KEEP, PolicySabotage.LOOSEN)
WRITTEN: dict[str, Any] = {
    "classes": ["public", "internal", "confidential", "restricted"],
    "providers": {"p0": {"region": "us"}},
    "endpoints": [
        {"id": "e0", "model": "m", "region": "eu", "max_data_class": "confidential"},
        {"id": "e1", "model": "m", "provider": "p0", "agreement": {"until": "2026-03-02"}},
    ],
    "organisation": {},
    "tasks": {"t1": {"regions": ["eu"]}, "t1/leaf": {}},
    "roles": {"r0": {"tasks": ["t1/leaf"]}},
    "strategies": {"s0": {"no_training": True}},
    "users": {"u0": {"data_class": "confidential"}},
    "apps": {"a0": {"keys": [hashed("key"), {"key": hashed("held"), "user": "u0"}]}},
}
WRITTEN["endpoints"][1] |= {"max_data_class": "restricted", "zone": "leased"}


def call(key: str = "key", body: dict[str, Any] | None = None, **headers: str) -> CallOracle:
    named = {f"x-router-{name.replace('_', '-')}": value for name, value in headers.items()}
    made = FaultyCall("POST", "/v1/chat/completions", key, named, body or {}, [], False)
    return CallOracle(PolicyOracle(WRITTEN), made, is_off=False)


def forbidden(of: CallOracle, place: str, at_s: float = NOON, **body: Any) -> str | None:
    return of.forbids(place, "/v1/chat/completions", body, at_s)


def test_the_oracle_asks_each_level_by_itself() -> None:
    assert forbidden(call(), "e0") is forbidden(call(), "p0/") is None
    assert forbidden(call(data_class="confidential"), "p0/") == "request: data class"
    assert forbidden(call("held"), "p0/") == "user: data class"
    assert forbidden(call(user="u0"), "p0/") == "user: data class"
    assert forbidden(call(role="r0"), "e1") == "task: region"
    assert forbidden(call(strategy="s0"), "e0") == "strategy: training"
    assert forbidden(call(data_class="secret"), "e0") == "a hint that nobody can follow"


def test_the_oracle_knows_when_an_agreement_ended() -> None:
    restricted = call(data_class="restricted")

    assert forbidden(restricted, "e1") is None
    assert forbidden(restricted, "e1", NOON + DAY_S) == "request: data class"


def test_the_oracle_reads_what_came_to_an_endpoint() -> None:
    sensitive = call(data_class="confidential", body={"store": True})

    assert forbidden(sensitive, "e0") is None
    assert forbidden(sensitive, "e0", store=True) == "keeps store"


def test_a_policy_that_left_a_level_out_is_looser() -> None:
    of = call(user="u0", role="r0")
    told = {"data_class": {"value": "internal"}, "regions": {"value": ["eu"]}}

    assert looser(of.said, told, of.oracle) == [
        "user: data_class: confidential in {'data_class': 'internal', 'regions': ['eu']}"
    ]
    told = {"data_class": {"value": "confidential"}, "regions": {"value": ["eu", "us"]}}
    assert [line.split(":")[1] for line in looser(of.said, told, of.oracle)] == [" regions"]


@pytest.mark.parametrize("kind", list(PolicySabotage))
def test_a_rule_that_is_broken_on_purpose_is_noticed(kind: PolicySabotage) -> None:
    found = prove_part(PolicyPart(0, range(3 if kind in RARE else 1), kind))

    assert found.forbidden_bytes > 0


def test_a_few_hundred_triples_send_nothing_where_it_is_forbidden() -> None:
    logs = structlog.get_config()
    found = prove_part(PolicyPart(0, range(1), None))

    assert structlog.get_config() == logs  # what this process has to say otherwise, it does
    assert (found.forbidden_bytes, found.looser, found.counts["internal_errors"]) == (0, 0, 0)
    assert found.triples == 400
    assert found.counts["arrivals"] > 100


def test_what_never_happened_fails_the_proof(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(policy, "prove_policy", lambda n, **_: PolicyFound(triples=n))

    assert policy.main(["--quick", "--json"]) == 1
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert (found["triples"], found["forbidden_bytes"], found["looser"]) == (10_000, 0, 0)
    assert "never happened: fallbacks" in said.err


def test_a_configuration_and_its_calls_depend_on_the_seed_alone() -> None:
    first, second = (configuration(Random("0/7")) for _ in range(2))
    calls = [faulty_call(Random(7), n_endpoints=4, classes=first["classes"]) for _ in range(2)]

    assert first == second
    assert calls[0] == calls[1]
    assert configuration(Random("0/8")) != first
