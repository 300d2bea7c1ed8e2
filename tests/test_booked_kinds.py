"""What is remembered of kinds of calls: whatever it depends on, a change of that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import LEARN, ROUTED, Provider, Sidecar, endpoint, serving
from msgspec import structs

from bandit.limits import NO_LIMITS, Limit
from bandit.steps import Step
from router.config.compiled import Role
from router.config.entries import Fallback, Learn
from router.config.exclusions import Exclusion
from router.config.policies import RoleEntry
from router.config.rules import NOTHING
from router.decision.decide import Decision
from router.decision.kinds import DecisionKind, kind_of
from router.decision.shared_draws import StoredDraw
from router.dispatch.answer_headers import decision_headers
from router.dispatch.decision_flags import flags_of
from router.dispatch.token_kinds import token_kind
from router.policy.constraints import Eligibility
from router.policy.tasks import FoundBy
from telemetry import events
from telemetry.layouts import RECORD
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
    sidecar.app.calls.note = lambda decision, answered, kind: found.append(decision)
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


def variants(decided: Decision) -> list[Decision]:
    """A decision, and others that differ from it in one thing each."""
    context, plan = decided.context, decided.plan
    configuration = context.beliefs.configuration
    a, b = configuration.catalog.endpoints
    app, law = context.caller.app, plan.route.law
    assert law is not None
    categories = {name: k for k, name in enumerate(app.categories)}
    other = replace(app, digest=2, categories=categories)
    listening = replace(app, digest=3, entry=app.entry.model_copy(update={"learn": Learn.LISTEN}))
    raters = replace(app, digest=4, entry=app.entry.model_copy(update={"raters": True}))
    alone = Eligibility(np.array([True, False]), (None, Exclusion.REGION))
    both = Eligibility(np.array([True, True]), (None, None), details={1: "of another call"})
    contexts = [
        *(
            structs.replace(context, caller=structs.replace(context.caller, app=each))
            for each in (other, listening, raters)
        ),
        structs.replace(
            context,
            task=structs.replace(context.task, name="code"),
            task_index=configuration.task_index["code"],
        ),
        structs.replace(context, task=structs.replace(context.task, found_by=FoundBy.RULE)),
        structs.replace(context, category=1),
        structs.replace(context, release="another"),
        structs.replace(context, explore=not context.explore),
        structs.replace(context, strategy=configuration.strategies["cheap"]),
        structs.replace(context, hints=structs.replace(context.hints, profile=True)),
        structs.replace(context, eligibility=alone),
        structs.replace(context, eligibility=both),
        structs.replace(context, role=Role("planner", 9, RoleEntry(), NOTHING, NO_LIMITS)),
    ]
    plans = [
        structs.replace(plan, drawn=a),
        structs.replace(plan, drawn=b),
        structs.replace(plan, drawing=None, propensity=0.9),
        structs.replace(plan, drawing=None, propensity=0.1),
        structs.replace(plan, drawing=None, step=Step.HOLDOUT),
        structs.replace(plan, step=Step.FLOOR),
        structs.replace(plan, eligibility=alone, drawing=None),
        structs.replace(plan, route=structs.replace(plan.route, law=None)),
        structs.replace(plan, route=structs.replace(plan.route, routed=False)),
        structs.replace(plan, route=structs.replace(plan.route, law=replace(law, incumbent=0))),
        structs.replace(plan, route=structs.replace(plan.route, fallback=Fallback.NONE)),
        structs.replace(plan, relaxed=(Limit.LATENCY,)),
    ]
    held = StoredDraw(a.digest, 0.5, 1, 1, Step.SAMPLE)
    differing = [
        *(structs.replace(decided, context=each) for each in contexts),
        *(
            structs.replace(decided, plan=each, context=structs.replace(context, route=each.route))
            for each in plans
        ),
    ]
    return [
        decided,
        *differing,
        *(
            structs.replace(each, held=held, plan=structs.replace(each.plan, drawing=None))
            for each in differing
        ),
        structs.replace(decided, held=held),
        structs.replace(decided, held=held, stands_in_for=b),
        structs.replace(decided, replaces=True),
        structs.replace(decided, first_step=Step.HOLDOUT),
    ]


def test_what_a_kind_depends_on_changes_it(decided: Decision) -> None:
    context = decided.context
    beliefs = context.beliefs
    a, b = beliefs.configuration.catalog.endpoints
    # So that no figure is another's by chance.
    figures = np.arange(1.0, beliefs.quality_mean.size + 1).reshape(beliefs.quality_mean.shape)
    others = replace(
        beliefs,
        quality_mean=figures / 100,
        quality_sd=figures / 200,
        quality_spread=figures / 300,
        version=beliefs.version + 1,
    )

    for _ in range(2):
        for seen in (beliefs, others):
            for one in variants(decided):
                each = structs.replace(one, context=structs.replace(one.context, beliefs=seen))
                kind, alone = kind_of(each), DecisionKind()
                assert kind.derive(flags_of, each) == flags_of(each)
                for executed in (a, b, None):
                    found = token_kind(kind, each, executed)
                    assert found == token_kind(alone, each, executed)
                    told = decision_headers(each, "d-1", executed, kind)
                    assert told == decision_headers(each, "d-1", executed, alone)


def test_what_a_kind_depends_on_changes_its_explanation(
    sidecar: Sidecar, decided: Decision
) -> None:
    log = sidecar.app.decisions
    context = decided.context
    others = replace(context.beliefs, version=context.beliefs.version + 1, choices={})

    found = set()
    for _ in range(2):
        for seen in (context.beliefs, others):
            for one in variants(decided):
                each = structs.replace(one, context=structs.replace(one.context, beliefs=seen))
                kept = log._kept(each)
                assert kept == log._work_out(each)
                found.add(kept.digests)

    assert len(found) > 15


def test_decisions_of_one_kind_share_what_was_worked_out(decided: Decision) -> None:
    own = structs.replace(decided, nonce=bytes(16))

    assert kind_of(own) is kind_of(decided)
    assert len({id(kind_of(each)) for each in variants(decided)}) > 20


def test_of_what_there_is_more_than_a_record_holds_the_most_is_kept() -> None:
    token = Token(1, 0, 0, bytes(16), 0, 1, 2, 3, 4, 5, 6, 7, 0.5, 0.5, 0.1).pack()
    record = events.outcome(
        token,
        result=events.Result.TIMEOUT,
        attempt=300,
        status=504,
        flags=2,
        tokens_in=1 << 40,
        tokens_out=3,
        latency_s=1e7,
        cost_nano=1 << 40,
        added_s=1e9,
        price_day=9,
    )

    found = np.frombuffer(record, RECORD)[0]
    most = events.U32_MAX
    assert (found["attempt"], found["status"], found["flags"]) == (255, 504, 2)
    assert (found["tokens_in"], found["tokens_out"], found["latency_us"]) == (most, 3, most)
    assert (found["cost_nano"], found["added_ms"], found["price_day"]) == (1 << 40, most, 9)
