"""A trial that was won releases by itself only where the app lets releases happen by themselves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_releases import believed, saying
from test_router_choices import SCOPE, rows
from test_trials import trial_of

from bandit.cells import Terms
from router.beliefs.by_hand import accept, case_of, undo
from router.beliefs.kept import Kept, NoteKind, Proposal, ReleaseNotice
from router.beliefs.trials import of_key, settle
from router.config.compiled import Configuration
from telemetry.trials import Trial, TrialState

BEFORE = Kept(SCOPE, 3, 1, {}, begun_at_ms=1)
FEW = [("code", "a", 5, 0.5), ("code", "b", 5, 0.5)]


def won_in(of: Configuration) -> Trial:
    return trial_of(of, task="code", state=TrialState.WON, ended_ms=2, holdout=0.02)


def end(
    kept: Kept, trial: Trial, of: Configuration, at_ms: int
) -> tuple[Kept, list[ReleaseNotice]] | None:
    return settle(kept, of_key([trial], kept.review_key, of), of, now_ms=at_ms)


def evidence() -> Terms:
    return rows(FEW)


def test_under_ask_it_waits_and_a_yes_moves_whatever_is_believed() -> None:
    of = saying("ask")
    trial = won_in(of)
    kept, released = end(BEFORE, trial, of, 9) or (BEFORE, [])

    assert (released, kept.current, kept.won) == ([], {}, {})
    one = kept.waiting["code"]
    assert (one.before, one.after, one.reason) == ("a", "b", "trial")
    assert [(note.kind, note.id) for note in kept.notes] == [(NoteKind.PROPOSED, one.id)]
    kept = replace(kept, notes=())
    assert end(kept, trial, of, 10) is None, "it is said once"

    said = accept(case_of(kept, believed(evidence(), of, kept)), one, now_ms=11)

    assert said.kept is not None
    assert [(r.after, r.reason) for r in said.released] == [("b", "accepted: trial")]
    after, released = end(said.kept, trial, of, 12) or (BEFORE, [])
    assert (released, after.current["code"], after.won) == ([], "b", {"code": trial.id})
    assert end(after, trial, of, 13) is None
    undone = undo(case_of(after, believed(evidence(), of, after)), after.last["code"], now_ms=14)
    assert undone.kept is not None
    assert end(undone.kept, trial, of, 15) is None, "what was undone stays so"


def test_under_frozen_it_is_held_back_and_not_proposed() -> None:
    of = saying("frozen")
    kept, released = end(BEFORE, won_in(of), of, 9) or (BEFORE, [])

    assert (released, kept.notes, kept.current) == ([], (), {})
    assert (kept.waiting["code"].after, kept.waiting["code"].id) == ("b", "")


def test_once_the_app_lets_it_happen_it_does() -> None:
    asks, lets = saying("ask"), saying("auto")
    trial = won_in(lets)
    kept, _ = end(BEFORE, trial, asks, 9) or (BEFORE, [])

    after, released = end(replace(kept, notes=()), trial, lets, 10) or (BEFORE, [])

    assert [(r.before, r.after, r.reason) for r in released] == [("a", "b", "trial")]
    assert after.won == {"code": trial.id}


def test_it_takes_the_place_of_what_a_review_proposed() -> None:
    of = saying("ask")
    old = Proposal("code", "a", "c", 0.95, 0.1, "better", 5, 5, "12345678")

    kept, _ = end(replace(BEFORE, waiting={"code": old}), won_in(of), of, 9) or (BEFORE, [])

    assert [(n.kind, n.after, n.why) for n in kept.notes] == [
        (NoteKind.LAPSED, "c", "a trial of it was won"),
        (NoteKind.PROPOSED, "b", "trial"),
    ]
    assert kept.waiting["code"].after == "b"


@pytest.mark.parametrize("mode", ["auto", "ask", "frozen"])
def test_a_trial_without_a_gain_pins_the_incumbent_whoever_says_yes(mode: str) -> None:
    of = saying(mode, app={"auto_pin": True})
    lost = trial_of(of, task="code", state=TrialState.ENDED, ended_ms=2, auto_pin=True)

    kept, released = end(replace(BEFORE, current={"code": "b"}), lost, of, 9) or (BEFORE, [])

    assert [(r.before, r.after, r.reason) for r in released] == [("b", "a", "pinned")]
    assert kept.current["code"] == "a"
