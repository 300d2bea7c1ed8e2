"""A decision as short as feedback allows: it counts as its token would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry.decisions import DECISION_SIZE, KIND, Decisions
from telemetry.errors import MalformedEvent
from telemetry.layouts import TOKEN
from telemetry.tokens import TAUGHT_SINCE, Token
from workers.folding.hearing import LabelStandings
from workers.folding.terms import label_terms

U64 = st.integers(0, 2**64 - 1)
FEW = st.integers(1, 3)
LEFT_OUT = ("key_id", "strategy", "session", "propensity")
HALF = st.floats(0, 1, width=16)

made = st.builds(
    Token,
    key_id=st.integers(0, 2**32 - 1),
    shard=st.integers(0, 2**16 - 1),
    flags=st.integers(0, 2**16 - 1),
    nonce=st.binary(min_size=16, max_size=16),
    decided_at_ms=st.integers(0, 2**32 * 1000 - 1),
    category=FEW | U64,
    drawn=U64,
    executed=FEW | U64,
    strategy=U64,
    app=FEW | U64,
    release_key=FEW,
    session=U64,
    propensity=HALF,
    predicted=HALF,
    predicted_sd=HALF,
    spread=HALF,
    regime=st.integers(0, 2**32 - 1),
    user=st.just(0) | U64,
    role=st.just(0) | st.integers(1, 2**16 - 1),
)


def array(tokens: list[Token]) -> np.ndarray:
    return np.frombuffer(b"".join(token.pack() for token in tokens), dtype=TOKEN)


def short(tokens: np.ndarray) -> np.ndarray:
    """Tokens without what the fold of feedback does not read."""
    out = tokens.copy()
    for name in LEFT_OUT:
        out[name] = 0
    out["drawn"] = out["executed"]
    return out


@given(st.lists(made, max_size=20))
def test_the_token_comes_back_with_all_that_feedback_reads(tokens: list[Token]) -> None:
    given = array(tokens)

    found = Decisions.of(given)

    assert found.to_tokens(given["shard"]).tobytes() == short(given).tobytes()
    assert found.decided_at_ms.tolist() == given["decided_at_ms"].tolist()
    assert len(np.unique(found.kinds)) == len(found.kinds)


@given(st.lists(made, max_size=20))
def test_packed_ones_come_back_in_32_bytes_and_8_more_for_a_user(tokens: list[Token]) -> None:
    found = Decisions.of(array(tokens))

    packed = found.pack()
    again = Decisions.unpack(packed, found.kinds)

    assert [len(raw) for raw in packed] == [40 if token.user else 32 for token in tokens]
    assert again.to_tokens().tobytes() == found.to_tokens().tobytes()


def token(**more: float) -> Token:
    whole = {"nonce": bytes(16), "decided_at_ms": 10**12, "predicted": 0.5, "predicted_sd": 0.1}
    rest = dict.fromkeys(("category", "drawn", "executed", "strategy", "app", "release_key"), 2)
    return Token(1, 3, 4, session=5, propensity=0.5, **{**whole, **rest, **more})  # type: ignore[arg-type]


def test_a_kind_is_told_once() -> None:
    found = Decisions.of(array([token(), token(predicted=0.25), token(category=9), token()]))

    assert found.rows["kind"].tolist() == [0, 0, 1, 0]
    assert found.kinds["category"].tolist() == [2, 9]


def test_what_was_expected_a_little_is_not_taken_for_nothing() -> None:
    """A spread of 0 says that nothing was expected; and no half float is as small as 1e-30."""
    found = Decisions.of(array([token(spread=1e-30), token(spread=0.0), token(spread=1e30)]))

    spread = found.to_tokens()["spread"]
    assert (spread > 0).tolist() == [True, False, True]
    assert np.isfinite(spread).all()


def test_times_beyond_what_it_holds_are_the_nearest() -> None:
    found = Decisions.of(array([token(decided_at_ms=-1), token(decided_at_ms=2**60)]))

    assert found.decided_at_ms.tolist() == [0, 2**32 * 1000 - 1]


def test_labels_count_by_it_as_by_its_token() -> None:
    dice = np.random.default_rng(1)
    given = array([token(category=n % 3, user=n % 2, spread=0.25) for n in range(200)])
    given = given.copy()
    given["token_version"] = dice.integers(TAUGHT_SINCE - 1, TAUGHT_SINCE + 2, 200)
    given["token_flags"], given["regime"] = dice.integers(0, 8, 200), dice.integers(0, 2, 200)
    held = LabelStandings.nothing(200)
    held.reward[:], held.first[:], held.kind[:] = dice.random(200), dice.random(200), 4
    nothing = LabelStandings.nothing(200)

    by_token = label_terms(given, nothing, held)
    by_decision = label_terms(Decisions.of(given).to_tokens(), nothing, held)

    for ours, theirs in zip(by_decision, by_token, strict=True):
        assert ours.keys.tobytes() == theirs.keys.tobytes()
        assert ours.values.tobytes() == theirs.values.tobytes()


@pytest.mark.parametrize("raw", [b"", bytes(DECISION_SIZE - 1), bytes(DECISION_SIZE + 1)])
def test_bytes_of_another_length_are_refused(raw: bytes) -> None:
    with pytest.raises(MalformedEvent, match=f"decision of {len(raw)} bytes"):
        Decisions.unpack([raw], np.zeros(1, dtype=KIND))


def test_a_kind_that_nobody_told_is_refused() -> None:
    packed = Decisions.of(array([token()])).pack()

    with pytest.raises(MalformedEvent, match="kind 0, of 0"):
        Decisions.unpack(packed, np.zeros(0, dtype=KIND))
