"""Who says yes to a release: what is held back, proposed, accepted, undone, and what is not."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from test_router_choices import DAY_MS, NOW_MS, SCOPE, WEEK_MS, configuration, rows
from test_router_choices import _store as lay_out

from bandit.cells import Terms
from bandit.drift import CALM, AlarmKind
from bandit.regimes import FIRST
from router.beliefs import choices, reviews
from router.beliefs.alarms import AlarmNotice, EndpointWatch
from router.beliefs.beliefs import Beliefs, believe
from router.beliefs.by_hand import accept, case_of, undo
from router.beliefs.keeper import Keeper
from router.beliefs.kept import (
    Kept,
    NoteKind,
    ReleaseNotice,
    ReviewKey,
    Undone,
    proposal_id,
    release_id,
)
from router.beliefs.release_log import read_release_log
from router.beliefs.releases import Releases
from router.beliefs.undone import is_newer
from router.beliefs.yielding import yielded
from router.config.compiled import Configuration
from telemetry import keys
from telemetry.store import Address, connect

MODES = ("auto", "ask", "frozen")
HOUR_MS = 3_600_000


def saying(releases: str, names: str = "abc", **more: Any) -> Configuration:
    app = {"mode": "route", "strategy": "quality", "releases": releases, **more.pop("app", {})}
    return configuration(names, apps={"default": app}, **more)


def believed(found: Terms, of: Configuration, kept: Kept) -> Beliefs:
    review_keys = [kept.review_key]
    return believe(of, found, version=1, review_keys=review_keys, kept={kept.review_key: kept})


def look(
    found: Terms, kept: Kept, of: Configuration, at_ms: int, **more: Any
) -> tuple[Kept, list[ReleaseNotice]] | None:
    """Return what a review makes of task code; others follow by what the endpoints are there."""
    posterior = believed(found, of, kept).posterior
    said = reviews.review(kept.review_key, kept, posterior, of, now_ms=at_ms, **more)
    if said is None:
        return None
    after, released = said
    current = {task: name for task, name in after.current.items() if task == "code"}
    waits = {task: one for task, one in after.waiting.items() if task == "code"}
    notes = tuple(note for note in after.notes if note.task == "code")
    after = replace(after, current=current, waiting=waits, notes=notes)
    return after, [one for one in released if one.task == "code"]


BEGUN = Kept(SCOPE, 1, NOW_MS, {})
B_IS_BETTER = [("code", "a", 100, 0.5), ("code", "b", 100, 0.95)]
B_IS_EQUAL = [("code", "a", 100, 0.6), ("code", "b", 100, 0.6)]
B_IS_CERTAIN = [("code", "a", 400, 0.5), ("code", "b", 400, 0.95)]
AT_B = Kept(SCOPE, 3, NOW_MS, {"code": "b"}, {"b": ("b",)})


def moves(changes: Sequence[ReleaseNotice]) -> list[tuple[str, str, str, str]]:
    return [(c.task, c.before, c.after, c.reason) for c in changes]


def waiting(kept: Kept) -> dict[str, tuple[str, str, str]]:
    return {task: (one.before, one.after, one.reason) for task, one in kept.waiting.items()}


# -- what is held back ---------------------------------------------------------------------------


def test_where_nobody_says_otherwise_releases_happen_by_themselves() -> None:
    after, released = look(rows(B_IS_BETTER), BEGUN, configuration(), NOW_MS + WEEK_MS) or (
        BEGUN,
        [],
    )

    assert moves(released) == [("code", "a", "b", "better")]
    assert (after.current["code"], after.waiting, after.notes) == ("b", {}, ())


def test_the_organisation_says_it_for_apps_that_do_not() -> None:
    apps = {"mine": {"releases": "ask"}, "default": {}}
    of = configuration(apps=apps, organisation={"releases": "frozen"})

    assert {name: app.releases.value for name, app in of.apps.items()} == {
        "mine": "ask",
        "default": "frozen",
    }


@pytest.mark.parametrize("counts", [B_IS_BETTER, B_IS_CERTAIN])
def test_ask_proposes_what_would_be_released_and_says_so_once(counts: list[Any]) -> None:
    of, found = saying("ask"), rows(counts)
    after, released = look(found, BEGUN, of, NOW_MS + WEEK_MS) or (BEGUN, [])

    assert released == []
    assert "code" not in after.current
    assert waiting(after) == {"code": ("a", "b", "better")}
    (note,) = after.notes
    assert (note.kind, note.task, note.before, note.after) == (NoteKind.PROPOSED, "code", "a", "b")
    assert note.id == after.waiting["code"].id == proposal_id(SCOPE, "code", "b", NOW_MS + WEEK_MS)
    assert len(note.id) == 8
    assert look(found, after, of, NOW_MS + WEEK_MS + 1) is None


def test_what_is_certain_is_proposed_at_the_look_that_finds_it() -> None:
    after, released = look(rows(B_IS_CERTAIN), BEGUN, saying("ask"), NOW_MS + 1) or (BEGUN, [])

    assert (released, waiting(after)) == ([], {"code": ("a", "b", "certain")})
    assert after.reviewed_at_ms == BEGUN.reviewed_at_ms


def test_frozen_proposes_nothing_and_the_report_says_what_it_holds_back() -> None:
    of, found = saying("frozen"), rows(B_IS_BETTER)
    after, released = look(found, BEGUN, of, NOW_MS + WEEK_MS) or (BEGUN, [])

    assert (released, after.notes) == ([], ())
    assert after.waiting["code"].id == ""
    weighed = believed(found, of, after).choices[SCOPE]
    shown = {row["task"]: row for row in choices.rows_of(weighed, of)}["code"]
    assert shown["note"].endswith("held back: frozen (b: better)")
    assert (shown["current"], shown["held_back"]["after"]) == ("a", "b")


def test_what_waits_is_shown_with_the_line_that_accepts_it() -> None:
    of, found = saying("ask"), rows(B_IS_BETTER)
    after, _ = look(found, BEGUN, of, NOW_MS + WEEK_MS) or (BEGUN, [])

    weighed = believed(found, of, after).choices[SCOPE]

    (note,) = (note for note in weighed.notes if "waits" in note)
    assert note.endswith(f"b waits: pointsman release accept {after.waiting['code'].id}")


def test_figures_of_what_waits_are_a_day_old_at_most() -> None:
    of, at_ms = saying("ask"), NOW_MS + WEEK_MS
    first, _ = look(rows(B_IS_BETTER), BEGUN, of, at_ms) or (BEGUN, [])
    more = rows([("code", "a", 200, 0.5), ("code", "b", 200, 0.7)])

    assert look(more, first, of, at_ms + DAY_MS - 1) is None
    again, released = look(more, first, of, at_ms + DAY_MS) or (first, [])

    one = again.waiting["code"]
    assert (released, again.notes) == ([], ())
    assert (one.id, one.made_at_ms, one.seen_at_ms) == (
        first.waiting["code"].id,
        at_ms,
        at_ms + DAY_MS,
    )
    assert one.gain == pytest.approx(0.2, abs=0.05)


def test_a_proposal_lapses_once_its_evidence_no_longer_holds_and_that_is_said_once() -> None:
    of, at_ms = saying("ask"), NOW_MS + WEEK_MS
    first, _ = look(rows(B_IS_BETTER), BEGUN, of, at_ms) or (BEGUN, [])

    after, released = look(rows(B_IS_EQUAL), first, of, at_ms + 1) or (first, [])

    assert (released, after.waiting) == ([], {})
    (note,) = after.notes
    assert (note.kind, note.id) == (NoteKind.LAPSED, first.waiting["code"].id)
    assert note.why.startswith("P(b better than a) is 0.")
    assert look(rows(B_IS_EQUAL), after, of, at_ms + 2) is None


def test_chance_near_the_bar_takes_no_proposal_away() -> None:
    """It is made at .9, and holds down to .8."""
    of, at_ms = saying("ask"), NOW_MS + WEEK_MS
    first, _ = look(rows(B_IS_BETTER), BEGUN, of, at_ms) or (BEGUN, [])
    case = case_of(first, believed(rows(B_IS_BETTER), of, first))

    def odds(b: int) -> float:
        found = rows([("code", "a", 100, 0.5), ("code", "b", 100, b / 100)])
        seen = look(found, replace(first, reviewed_at_ms=NOW_MS), of, at_ms) or (first, [])
        return float(seen[0].waiting["code"].p_better or 0) if seen[0].waiting else 0.0

    assert case.mode.value == "ask"
    between = [b for b in range(50, 70) if 0.8 <= odds(b) < 0.9]
    assert between
    assert all(odds(b) == 0 for b in range(50, between[0]))


@pytest.mark.parametrize("now", ["auto", "frozen"])
def test_a_proposal_lapses_when_the_app_says_otherwise(now: str) -> None:
    at_ms, found = NOW_MS + WEEK_MS, rows(B_IS_BETTER)
    first, _ = look(found, BEGUN, saying("ask"), at_ms) or (BEGUN, [])

    after, _ = look(found, first, saying(now), at_ms + 1) or (first, [])

    (note,) = after.notes
    assert (note.kind, note.why) == (NoteKind.LAPSED, f"the app says releases: {now} now")
    assert after.waiting == {}


def test_a_proposal_lapses_when_whom_it_names_is_removed_from_the_configuration() -> None:
    at_ms, found = NOW_MS + WEEK_MS, rows(B_IS_BETTER)
    first, _ = look(found, BEGUN, saying("ask"), at_ms) or (BEGUN, [])

    after, released = look(found, first, saying("ask", "ac"), at_ms + 1) or (first, [])

    assert (released, after.waiting) == ([], {})
    assert [n.why for n in after.notes] == ["b may not serve code now"]


PRICES = {"a": 2.0, "b": 1.0, "c": 0.5}
ORDERED = ReviewKey("default", "cheapest", "", "a")


def priced(releases: str) -> Configuration:
    listed = [
        {
            "id": name,
            "model": name,
            "base_url": f"http://127.0.0.1:1/{name}",
            "prices": {"input_usd_per_mtok": usd, "output_usd_per_mtok": usd},
        }
        for name, usd in PRICES.items()
    ]
    app = {"mode": "route", "strategy": "cheapest", "releases": releases}
    return configuration(endpoints=listed, apps={"default": app})


def served(of: Configuration, *names: str, n: int = 60) -> Terms:
    return rows([("code", name, n, 0.0) for name in names], of, ORDERED, labelled=False)


def test_an_orders_move_is_an_improvement_and_waits() -> None:
    of = priced("ask")
    begun = Kept(ORDERED, 1, NOW_MS, {})
    after, released = look(served(of, "a"), begun, of, NOW_MS + 1) or (begun, [])

    assert (released, after.current["code"]) == ([], "a")
    assert waiting(after)["code"] == ("a", "c", "first in the order")
    said = accept(
        case_of(after, believed(served(of, "a"), of, after)), after.waiting["code"], now_ms=NOW_MS
    )
    assert said.kept is not None
    assert (said.kept.current["code"], said.kept.moved_at_ms["code"]) == ("c", NOW_MS)
    assert moves(said.released) == [("code", "a", "c", "accepted: first in the order")]


# -- what is never held back ---------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_choice_that_is_removed_goes_to_the_incumbent_at_once(mode: str) -> None:
    after, released = look(rows(B_IS_BETTER), AT_B, saying(mode, "ac"), NOW_MS + 1) or (AT_B, [])

    assert moves(released) == [("code", "b", "a", "removed")]
    assert after.current["code"] == "a"


@pytest.mark.parametrize("mode", MODES)
def test_a_choice_that_is_lost_goes_to_the_incumbent_at_once_and_stays_there(mode: str) -> None:
    of, found = saying(mode), rows(B_IS_CERTAIN)
    after, released = look(found, AT_B, of, NOW_MS + 1, lost={"b"}) or (AT_B, [])

    assert moves(released) == [("code", "b", "a", "lost")]
    assert look(found, after, of, NOW_MS + 2, lost={"b"}) is None
    assert look(found, AT_B, of, NOW_MS + 1, lost={"a", "b"}) is None, "there is nowhere to go"


@pytest.mark.parametrize("mode", MODES)
def test_a_choice_that_an_alarm_says_fell_goes_to_the_incumbent_at_once(mode: str) -> None:
    of, found, at_ms = saying(mode), rows(B_IS_BETTER), NOW_MS + HOUR_MS
    after, released = look(found, AT_B, of, at_ms, fallen_at_ms=[0, at_ms - 1, 0]) or (AT_B, [])

    assert moves(released) == [("code", "b", "a", "alarm")]
    back = replace(after, current={"code": "b"})
    assert look(found, back, of, at_ms + 1, fallen_at_ms=[0, at_ms - 1, 0]) is None, "it was heard"
    assert look(found, AT_B, of, at_ms, fallen_at_ms=[at_ms, 0, at_ms]) is None, "it names others"


@pytest.mark.parametrize("mode", MODES)
def test_a_trial_of_others_keeps_no_choice_that_fell_or_is_lost(mode: str) -> None:
    of, found, at_ms = saying(mode), rows(B_IS_CERTAIN), NOW_MS + WEEK_MS
    fell, told = look(found, AT_B, of, at_ms, fallen_at_ms=[0, at_ms, 0], held={"code"}) or (
        AT_B,
        [],
    )
    _, away = look(found, AT_B, of, at_ms, lost={"b"}, held={"code"}) or (AT_B, [])
    at_a = replace(AT_B, current={})
    _, better = look(found, at_a, of, at_ms, held={"code"}) or (at_a, [])

    assert (moves(told), fell.current["code"]) == ([("code", "b", "a", "alarm")], "a")
    assert moves(away) == [("code", "b", "a", "lost")]
    assert not [one for one in moves(better) if one[0] == "code"], "nobody is released meanwhile"


@pytest.mark.parametrize("mode", ["ask", "frozen"])
def test_an_order_that_may_not_move_goes_to_the_incumbent_when_its_choice_is_lost(
    mode: str,
) -> None:
    of = priced(mode)
    at_c = Kept(ORDERED, 3, NOW_MS, {"code": "c"}, {"c": ("c",)})
    found = served(of, "a", "c")

    after, released = look(found, at_c, of, NOW_MS + 1, lost={"c"}) or (at_c, [])

    assert moves(released) == [("code", "c", "a", "lost")]
    assert "code" not in after.waiting, "nothing is proposed in place of what is lost"


@pytest.mark.parametrize("mode", MODES)
def test_a_choice_that_yields_as_the_room_is_spent_is_announced_once(mode: str) -> None:
    of = saying(mode)
    found = rows([("code", "a", 300, 0.9), ("code", "b", 300, 0.85)], of)
    kept = Kept(SCOPE, 3, NOW_MS, {"code": "b"}, begun_at_ms=NOW_MS)
    weighed = believed(found, of, kept).choices[SCOPE]
    assert weighed.room is not None
    assert weighed.room <= 0
    assert weighed.laws[of.task_index["code"]].current == 0

    after, released = yielded(weighed, kept, of.task_index, now_ms=NOW_MS) or (kept, [])

    assert (released, after.current) == ([], kept.current)
    (note,) = after.notes
    assert (note.kind, note.before, note.after) == (NoteKind.YIELDED, "b", "a")
    assert note.why == "allowance spent"
    later = replace(after, notes=())
    assert yielded(weighed, later, of.task_index, now_ms=NOW_MS + 9 * DAY_MS) is None
    with_room = replace(weighed, room=5.0)
    assert yielded(with_room, later, of.task_index, now_ms=NOW_MS + HOUR_MS) is None, "a day apart"
    forgot, _ = yielded(with_room, later, of.task_index, now_ms=NOW_MS + DAY_MS) or (later, [])
    assert (forgot.yielded_at_ms, forgot.notes) == ({}, ())


# -- by hand -------------------------------------------------------------------------------------


def proposed(of: Configuration) -> Kept:
    after, _ = look(rows(B_IS_BETTER), BEGUN, of, NOW_MS + WEEK_MS) or (BEGUN, [])
    return replace(after, notes=())


def test_a_yes_moves_the_task_with_the_evidence_of_now() -> None:
    of = saying("ask")
    kept = proposed(of)
    case = case_of(kept, believed(rows(B_IS_BETTER), of, kept))

    said = accept(case, kept.waiting["code"], now_ms=NOW_MS)

    assert said.kept is not None
    assert moves(said.released) == [("code", "a", "b", "accepted: better")]
    assert (said.kept.current["code"], said.kept.waiting, said.kept.notes) == ("b", {}, ())
    assert said.kept.last["code"].at_ms == NOW_MS
    assert said.released[0].p_better == pytest.approx(1, abs=0.01)


def test_a_yes_to_what_lapsed_meanwhile_is_refused_with_what_holds_now() -> None:
    of = saying("ask")
    kept = proposed(of)
    case = case_of(kept, believed(rows(B_IS_EQUAL), of, kept))

    said = accept(case, kept.waiting["code"], now_ms=NOW_MS)

    assert said.kept is not None
    assert (said.released, said.kept.current, said.kept.waiting) == ((), {}, {})
    assert said.refused.startswith(f"proposal {kept.waiting['code'].id} lapsed: P(b better than a)")
    assert [note.kind for note in said.kept.notes] == [NoteKind.LAPSED]


def undone_at(found: Terms, of: Configuration) -> Kept:
    """B was released, and is taken back by hand."""
    released, _ = look(found, BEGUN, saying("auto"), NOW_MS + WEEK_MS) or (BEGUN, [])
    case = case_of(released, believed(found, of, released))
    said = undo(case, released.last["code"], now_ms=NOW_MS + WEEK_MS)
    assert moves(said.released) == [("code", "b", "a", "undone")]
    assert said.kept is not None
    assert said.kept.current["code"] == "a"
    return said.kept


def test_what_was_undone_comes_back_only_on_newer_evidence() -> None:
    """It had 100 labels, so 100 new ones of its own are asked for."""
    of, found = saying("auto"), rows(B_IS_BETTER)
    kept = undone_at(found, of)
    assert kept.undone == {"code": {"b": Undone(NOW_MS + WEEK_MS, 100)}}

    later = kept.reviewed_at_ms + WEEK_MS
    none, released = look(found, kept, of, later) or (kept, [])
    assert (released, none.current["code"]) == ([], "a")
    others = rows([("code", "a", 900, 0.5), ("code", "b", 199, 0.95)])
    _, released = look(others, kept, of, later) or (kept, [])
    assert released == []
    again, released = look(rows([*B_IS_BETTER, *B_IS_BETTER]), kept, of, later) or (kept, [])
    assert moves(released) == [("code", "a", "b", "better")]
    assert again.undone == {}


def test_what_was_undone_is_not_proposed_either_before_that() -> None:
    of, found = saying("ask"), rows(B_IS_BETTER)
    kept = undone_at(found, of)

    after, _ = look(found, kept, of, kept.reviewed_at_ms + WEEK_MS) or (kept, [])
    assert after.waiting == {}
    more = rows([*B_IS_BETTER, *B_IS_BETTER])
    after, _ = look(more, kept, of, kept.reviewed_at_ms + WEEK_MS) or (kept, [])
    assert waiting(after) == {"code": ("a", "b", "better")}


def test_another_one_is_released_although_one_was_undone() -> None:
    of = saying("auto")
    kept = undone_at(rows(B_IS_BETTER), of)
    found = rows([*B_IS_BETTER, ("code", "c", 100, 0.9)])

    _, released = look(found, kept, of, kept.reviewed_at_ms + WEEK_MS) or (kept, [])

    assert moves(released) == [("code", "a", "c", "better")]


def test_an_order_does_not_move_back_to_whom_was_undone_before_as_many_calls_came() -> None:
    of = priced("auto")
    begun = Kept(ORDERED, 1, NOW_MS, {})
    found = served(of, "a", "c", n=60)
    moved, _ = look(found, begun, of, NOW_MS + 1) or (begun, [])
    assert moved.current["code"] == "c"
    case = case_of(moved, believed(found, of, moved))
    kept = undo(case, moved.last["code"], now_ms=NOW_MS + 1).kept
    assert kept is not None
    assert kept.undone["code"]["c"].evidence == 60

    def comes_to(n: int) -> list[str]:
        later = served(of, "a", "c", n=n)
        _, released = look(later, kept, of, NOW_MS + 9 * DAY_MS) or (kept, [])
        return [c.after for c in released]

    assert comes_to(60) == ["b"], "the next in the order"
    assert comes_to(119) == ["b"]
    assert comes_to(120) == ["c"]


@pytest.mark.parametrize(
    ("then", "now", "newer"),
    [
        (0, 19, False),
        (0, 20, True),
        (5, 24, False),
        (5, 25, True),
        (100, 199, False),
        (100, 200, True),
        (5_000, 5_199, False),
        (5_000, 5_200, True),
        (5_000, 199, False),  # they began anew
        (5_000, 200, True),
    ],
)
def test_newer_evidence_is_as_much_as_there_was_of_20_to_200(
    then: float, now: float, newer: bool
) -> None:
    assert is_newer(then, now) is newer


def test_an_undo_of_an_undo_goes_back_and_forgets_it() -> None:
    of, found = saying("auto"), rows(B_IS_BETTER)
    kept = undone_at(found, of)
    case = case_of(kept, believed(found, of, kept))

    said = undo(case, kept.last["code"], now_ms=NOW_MS + WEEK_MS + 1)

    assert said.kept is not None
    assert said.kept.current["code"] == "b"
    assert set(said.kept.undone["code"]) == {"a"}


def test_what_stands_elsewhere_by_now_or_may_not_serve_is_not_undone() -> None:
    of, found = saying("auto"), rows(B_IS_BETTER)
    released, _ = look(found, BEGUN, of, NOW_MS + WEEK_MS) or (BEGUN, [])
    last = released.last["code"]

    def refused(kept: Kept, last: ReleaseNotice, of: Configuration = of) -> str:
        return undo(case_of(kept, believed(found, of, kept)), last, now_ms=NOW_MS).refused

    assert refused(replace(released, current={"code": "c"}), last) == "code stands at c now"
    gone = replace(last, before="z")
    assert refused(released, gone) == "z may not serve code any more"
    unknown = replace(last, task="other")
    assert refused(released, unknown) == "other has no choice of its own in this configuration"


# -- in the store --------------------------------------------------------------------------------


def told(client: Any) -> list[dict[str, Any]]:
    return [json.loads(next(iter(e[1].values()))) for e in client.xrange(keys.RELEASES)]


def test_a_proposal_lies_in_the_store_until_it_ends_and_is_read_as_it_was(client: Any) -> None:
    of, releases = saying("ask"), Releases(client)
    after, _ = look(rows(B_IS_BETTER), BEGUN, of, NOW_MS + WEEK_MS) or (BEGUN, [])
    assert releases.change(replace(BEGUN, notes=()), [], now_ms=NOW_MS)
    assert releases.change(after, [], now_ms=NOW_MS + WEEK_MS)

    (id_, raw), *_ = client.hgetall(keys.PROPOSALS).items()
    one = json.loads(raw)
    assert (id_.decode(), one["id"]) == (after.waiting["code"].id,) * 2
    assert (one["app"], one["task"], one["before"], one["after"]) == ("default", "code", "a", "b")
    assert ReviewKey(**one["scope"]) == SCOPE
    other = Releases(client)
    other.read()
    assert other.kept[SCOPE] == replace(after, notes=())
    assert other.kept[SCOPE].waiting == after.waiting

    lapsed, _ = look(rows(B_IS_EQUAL), other.kept[SCOPE], of, NOW_MS + WEEK_MS + 1) or (after, [])
    assert other.change(lapsed, [], now_ms=NOW_MS + WEEK_MS + 1)
    assert client.hgetall(keys.PROPOSALS) == {}
    assert [(n["kind"], n["id"]) for n in told(client)] == [
        ("proposed", one["id"]),
        ("lapsed", one["id"]),
    ]
    assert told(client)[0]["p_better"] == one["p_better"]
    assert [n["kind"] for n in read_release_log(client, [lapsed], most=9)] == ["lapsed", "proposed"]


def test_what_was_undone_and_what_yielded_outlive_a_restart(client: Any) -> None:
    kept = replace(AT_B, version=1, undone={"code": {"c": Undone(5, 7.0)}}, yielded_at_ms={"x": 9})
    assert Releases(client).change(kept, [], now_ms=NOW_MS)

    again = Releases(client)
    again.read()

    assert again.kept[SCOPE] == kept


def test_standings_of_before_are_read_and_their_releases_have_ids(client: Any) -> None:
    """As the version before wrote them, in the hash and in the stream."""
    last = {"task": "code", "before": "a", "after": "b", "p_better": 0.95, "gain": 0.1}
    last |= {"reason": "better", "labels": {"default": 40}, "at_ms": NOW_MS}
    written = {
        "version": 3,
        "reviewed_at_ms": NOW_MS,
        "current": {"code": "b"},
        "hosts": {"b": ["b"]},
        "certain_at_ms": {},
        "moved_at_ms": {},
        "left_at_ms": {},
        "last": {"code": last},
        "begun_at_ms": NOW_MS,
        "scope": {
            "app": "default",
            "strategy": "quality",
            "model": "",
            "incumbent": "a",
            "role": "",
            "task": "",
        },
    }
    client.hset(keys.STANDINGS, f"{SCOPE.digest:016x}", json.dumps(written).encode())
    entry = {"app": "default", "strategy": "quality", "model": None, **last, "version": 3}
    client.xadd(keys.RELEASES, {"release": json.dumps(entry).encode()})

    releases = Releases(client)
    releases.read()

    kept = releases.kept[SCOPE]
    assert (kept.current, kept.waiting, kept.undone) == ({"code": "b"}, {}, {})
    (read,) = read_release_log(client, releases.kept.values(), most=9)
    assert read["id"] == release_id(SCOPE, kept.last["code"])
    case = case_of(kept, believed(rows(B_IS_BETTER), saying("auto"), kept))
    said = undo(case, kept.last["code"], now_ms=NOW_MS + 1)
    assert said.kept is not None
    assert releases.change(said.kept, list(said.released), now_ms=NOW_MS + 1)
    assert told(client)[-1]["reason"] == "undone"


@pytest.mark.usefixtures("store")  # several decide by a script at once
def test_of_many_that_change_the_same_choices_at_once_one_is_heard(
    client: Any, address: Address
) -> None:
    of = saying("ask")
    kept = proposed(of)
    assert Releases(client).change(replace(BEGUN, notes=()), [], now_ms=NOW_MS)
    assert Releases(client).change(kept, [], now_ms=NOW_MS)
    found = believed(rows(B_IS_BETTER), of, kept)
    written: list[bool] = []

    def say_yes() -> None:
        mine = connect(address)
        releases = Releases(mine)
        releases.read()
        start.wait()
        now = releases.kept[SCOPE]
        said = accept(case_of(now, found), now.waiting["code"], now_ms=NOW_MS)
        assert said.kept is not None
        written.append(releases.change(said.kept, list(said.released), now_ms=NOW_MS))
        mine.close()

    start = threading.Barrier(4)
    threads = [threading.Thread(target=say_yes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(written) == [False, False, False, True]
    assert [one["reason"] for one in told(client)] == ["accepted: better"]
    assert client.hgetall(keys.PROPOSALS) == {}


# -- as keepers see to it -------------------------------------------------------------------------


@contextmanager
def keeping(of: Configuration, address: Address, state_dir: Path, n: int) -> Iterator[list[Keeper]]:
    keepers = [Keeper(of, address, state_dir) for _ in range(n)]
    threads = [threading.Thread(target=keeper.start) for keeper in keepers]
    for thread in threads:
        thread.start()
    try:
        yield keepers
    finally:
        for keeper in keepers:
            keeper.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.usefixtures("store")  # a script decides
def test_keepers_at_the_same_time_propose_once_and_all_know_it(
    client: Any, address: Address, state_dir: Path
) -> None:
    lay_out(client, rows(B_IS_CERTAIN))

    def knows(keeper: Keeper) -> bool:
        found = keeper.current.choices.get(SCOPE)
        return found is not None and "code" in found.waiting

    with keeping(saying("ask"), address, state_dir, 3) as keepers:
        until(lambda: all(knows(keeper) for keeper in keepers))
        ids = {keeper.current.choices[SCOPE].waiting["code"].id for keeper in keepers}

    (one,) = told(client)
    assert (one["kind"], one["task"], one["after"], {one["id"]}) == ("proposed", "code", "b", ids)
    assert [id_.decode() for id_ in client.hkeys(keys.PROPOSALS)] == [one["id"]]


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("mode", MODES)
def test_a_keeper_sees_to_what_is_lost_and_to_what_fell_whoever_says_yes(
    client: Any, address: Address, state_dir: Path, mode: str
) -> None:
    of, now_ms = saying(mode), int(time.time() * 1000)
    lay_out(client, rows([("code", "a", 50, 0.6)]))
    kept = Kept(SCOPE, 1, now_ms, {"code": "b", "chat": "c"}, {"b": ("b",), "c": ("c",)})
    assert Releases(client).change(kept, [], now_ms=now_ms)
    with keeping(of, address, state_dir, 1) as (keeper,):
        keeper.find_lost = lambda: frozenset({"b"})
        until(lambda: len(told(client)) == 1)
        fell = AlarmNotice(AlarmKind.DOWN, now_ms + 1000, now_ms, 24.0, -1.7, 0.4)
        name = f"{of.catalog.by_id['c'].digest:016x}"
        client.hset(keys.DRIFT, name, msgspec.json.encode(EndpointWatch(CALM, FIRST, fell)))
        until(lambda: len(told(client)) == 2)

    assert [(r["task"], r["before"], r["after"], r["reason"]) for r in told(client)] == [
        ("code", "b", "a", "lost"),
        ("chat", "c", "a", "alarm"),
    ]


@pytest.mark.usefixtures("store")
def test_keepers_announce_once_that_a_choice_yields(
    client: Any, address: Address, state_dir: Path
) -> None:
    of, now_ms = configuration(), int(time.time() * 1000)
    lay_out(client, rows([("code", "a", 300, 0.9), ("code", "b", 300, 0.85)]))
    kept = Kept(SCOPE, 1, now_ms, {"code": "b"}, {"b": ("b",)})
    assert Releases(client).change(kept, [], now_ms=now_ms)
    with keeping(of, address, state_dir, 3) as keepers:
        until(lambda: len(told(client)) > 0)
        until(lambda: all(k.current.choices[SCOPE].version == 2 for k in keepers))

    (one,) = told(client)
    assert (one["kind"], one["task"], one["before"], one["after"]) == ("yielded", "code", "b", "a")
