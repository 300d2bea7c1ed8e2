"""The proof of credit for a whole proves something: its world adds up, and wrong credit shows."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

from scripts.proofs import episodes
from scripts.proofs.episode_play import map_of
from scripts.proofs.episode_sabotage import CreditSabotage
from scripts.proofs.episode_world import (
    ENDPOINTS,
    PARTS,
    ROLES,
    TASKS,
    TOGETHER,
    AgentWorld,
    RoleMap,
    episode_of,
)
from scripts.proofs.episodes import (
    CALLS,
    EPISODES,
    QUICK_ROWS,
    WHOLE,
    EpisodeRow,
    EpisodesFound,
    prove_episodes,
)

WORLDS = pytest.mark.parametrize("world", [PARTS, TOGETHER], ids=lambda world: str(world.name))
MAPS = list(product(range(4), repeat=3))


def worth(world: AgentWorld, roles: RoleMap) -> float:
    """The chance of success, written down once more."""
    planner, coder, reviewer = roles
    parts = world.fit[0, planner] * world.fit[1, coder] * world.fit[2, reviewer]
    return float(parts * world.pair[planner, coder])


@WORLDS
def test_the_world_adds_up(world: AgentWorld) -> None:
    by_map = {roles: worth(world, roles) for roles in MAPS}

    assert [world.success_of(roles) for roles in MAPS] == pytest.approx(list(by_map.values()))
    assert world.best == max(by_map, key=lambda roles: by_map[roles])
    assert world.uniform == pytest.approx(sum(by_map.values()) / len(by_map))
    assert all(0 < chance < 1 for chance in by_map.values())


@WORLDS
def test_there_is_one_best_map_and_labels_of_calls_favour_another_one(world: AgentWorld) -> None:
    ordered = sorted(map(world.success_of, MAPS))

    assert ordered[-1] > ordered[-2] + 0.1
    assert all(a != b for a, b in zip(world.best, world.praised, strict=True))
    assert world.success_of(world.best) > world.success_of(world.praised) + 0.3


def test_a_pair_that_only_fits_together_is_not_reached_by_single_steps() -> None:
    locals_of = {world.name: sum(map(world.is_local, MAPS)) for world in (PARTS, TOGETHER)}

    assert locals_of == {"parts": 1, "together": 2}
    assert TOGETHER.is_local((3, 3, 3))
    assert TOGETHER.pair.mean(axis=1).argmax() == TOGETHER.pair.mean(axis=0).argmax() == 3


def test_several_hands_are_worth_the_worst_map_that_they_could_make() -> None:
    hands = (frozenset({1}), frozenset({1, 2}), frozenset({2, 3}))

    assert PARTS.success_of_hands(hands) == PARTS.success_of((1, 1, 2))
    assert map_of(hands) is None
    alone = tuple(frozenset({who}) for who in PARTS.best)
    assert PARTS.success_of_hands(alone) == PARTS.success_of(PARTS.best)
    assert map_of(alone) == PARTS.best


def test_episodes_are_the_same_whoever_serves_them_and_each_part_is_called() -> None:
    seen = [episode_of(0, number) for number in range(200)]

    assert seen == [episode_of(0, number) for number in range(200)]
    assert seen[0] != episode_of(1, 0)
    for episode in seen:
        assert {call.role for call in episode.calls} == set(range(len(ROLES)))
        assert all(call.task in TASKS[ROLES[call.role]] for call in episode.calls)
    assert {len(episode.calls) for episode in seen} == {4, 5}
    assert {episode.calls[1].task for episode in seen} == set(TASKS["coder"])
    assert np.mean([episode.luck for episode in seen]) == pytest.approx(0.5, abs=0.06)


def test_credit_for_the_whole_finds_more_than_labels_of_calls_and_counts_once() -> None:
    found = prove_episodes(2, 160, rows=[(PARTS, WHOLE), (PARTS, CALLS)])

    whole, calls = found.rows
    assert found.kept()["each word counts once"]
    assert np.mean(whole.last_third) > np.mean(calls.last_third) + 0.1
    assert np.mean(whole.regret) < np.mean(calls.regret)
    assert calls.ended == {"another": 2}


def test_the_same_seed_gives_the_same_figures() -> None:
    one, two = (prove_episodes(1, 40, rows=[(PARTS, WHOLE)]).figures() for _ in range(2))

    assert one == two


@pytest.mark.parametrize("sabotage", list(CreditSabotage))
def test_wrong_credit_is_noticed(sabotage: CreditSabotage) -> None:
    found = prove_episodes(1, 30, rows=[(PARTS, WHOLE)], sabotage=sabotage)

    assert found.rows[0].miscounted > 0
    assert not found.kept()["each word counts once"]


def test_what_needs_no_sidecar_is_as_good_as_its_world() -> None:
    uniform, best = prove_episodes(4, 500, rows=QUICK_ROWS[-2:]).rows

    assert np.mean(uniform.all) == pytest.approx(PARTS.uniform, abs=0.04)
    assert np.mean(best.all) == pytest.approx(PARTS.success_of(PARTS.best), abs=0.04)
    assert best.regret == [0.0] * 4
    assert best.best_map == [1.0] * 4
    assert len(ENDPOINTS) == PARTS.fit.shape[1]


def test_the_exit_code_says_whether_all_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(episodes, "QUICK_ROWS", QUICK_ROWS[:1])
    size = ["--quick", "--json", "--jobs", "1", "--seeds", "1", "--episodes", "20"]

    assert episodes.main(size) == 0
    assert json.loads(capsys.readouterr().out)["kept"] == {"each word counts once": True}
    assert episodes.main([*size, "--sabotage", "last"]) == 1


def row(arm: str, success: float, **ended: int) -> EpisodeRow:
    return EpisodeRow("parts", arm, [success], [success], [0.0], [0.0], ended, 0, 0, 0)


def test_the_proof_fails_where_the_whole_is_hardly_better_or_most_miss_the_best_map() -> None:
    def kept(*rows: EpisodeRow) -> list[bool]:
        return list(EpisodesFound(list(rows), 10, EPISODES).kept().values())[1:]

    assert kept(row("whole", 0.8, best=8), row("calls", 0.4)) == [True, True]
    assert kept(row("whole", 0.5, best=7), row("calls", 0.4)) == [False, False]
