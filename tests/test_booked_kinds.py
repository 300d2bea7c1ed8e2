"""What is remembered of kinds of calls: whatever it depends on, a change of that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import LEARN, ROUTED, Provider, Sidecar, endpoint, serving
from msgspec import structs

from router.config.entries import Learn
from router.decision.decide import Decision
from router.dispatch.token_kinds import TokenKinds
from telemetry.store import Address
from telemetry.tokens import Token, TokenKind


@pytest.fixture
def sidecar(provider: Provider, state_dir: Path, address: Address) -> Iterator[Sidecar]:
    value = {
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "tasks": {"code": None},
        "strategies": {**LEARN, "cheap": {"objective": "cheapest", "incumbent": "none"}},
        "apps": ROUTED,
    }
    with serving(value, state_dir, address) as found:
        yield found


@pytest.fixture
def decided(sidecar: Sidecar) -> Decision:
    """A decision that was served."""
    found: list[Decision] = []
    sidecar.app.calls.note = lambda decision, answered: found.append(decision)
    assert sidecar.chat("auto").status_code == 200
    return found[0]


def test_a_token_packed_by_its_kind_is_the_same_as_one_packed_field_by_field() -> None:
    whole = Token(
        *(7, 3, 0x8004, bytes(range(16)), 1_800_000_000_123, 2**64 - 1, 2, 3, 4, 5, 6),
        session=0x0102030405060708,
        propensity=0.3,
        predicted=0.6,
        predicted_sd=0.05,
        spread=0.4,
        regime=0x10002,
        user=2**63 + 1,
        role=99,
    )
    kind = TokenKind.of(
        category=2**64 - 1,
        drawn=2,
        executed=3,
        strategy=4,
        app=5,
        release_key=6,
        predicted=0.6,
        predicted_sd=0.05,
        spread=0.4,
        regime=0x10002,
    )
    session, user = ((n).to_bytes(8, "little") for n in (whole.session, whole.user))
    head = (3, 7, whole.nonce, whole.decided_at_ms)

    assert kind.pack(*head, session, user, 0.3, 0x8004, 99) == whole.pack()
    nobody = structs.replace(whole, user=0)
    assert kind.pack(*head, session, b"", 0.3, 0x8004, 99) == nobody.pack()


def test_what_a_kind_of_token_depends_on_changes_it(decided: Decision) -> None:
    context, plan = decided.context, decided.plan
    beliefs = context.beliefs
    a, b = beliefs.configuration.catalog.endpoints
    # So that no figure is another's by chance.
    figures = np.arange(1.0, beliefs.quality_mean.size + 1).reshape(beliefs.quality_mean.shape)
    beliefs = replace(
        beliefs,
        quality_mean=figures / 100,
        quality_sd=figures / 200,
        quality_spread=figures / 300,
        _derived={},
    )
    app = context.caller.app
    categories = {name: k for k, name in enumerate(app.categories)}
    other = replace(app, digest=2, categories=categories)
    listening = replace(app, digest=3, entry=app.entry.model_copy(update={"learn": Learn.LISTEN}))
    contexts = [
        structs.replace(context, caller=structs.replace(context.caller, app=other)),
        structs.replace(context, caller=structs.replace(context.caller, app=listening)),
        structs.replace(context, task=structs.replace(context.task, name="code")),
        structs.replace(context, category=1),
        structs.replace(context, release="another"),
        structs.replace(context, strategy=beliefs.configuration.strategies["cheap"]),
        structs.replace(context, hints=structs.replace(context.hints, profile=True)),
    ]
    decisions = [decided, *(structs.replace(decided, context=each) for each in contexts)]
    decisions.append(structs.replace(decided, plan=structs.replace(plan, drawn=b)))
    decisions.append(structs.replace(decided, plan=structs.replace(plan, drawn=a)))
    kinds = beliefs.derive(TokenKinds)

    for _ in range(2):
        for each in decisions:
            for executed in (a, b, None):
                assert kinds.of(each, executed) == TokenKinds(beliefs).of(each, executed)
    assert beliefs.derive(TokenKinds) is kinds
    assert replace(beliefs, _derived={}).derive(TokenKinds) is not kinds
