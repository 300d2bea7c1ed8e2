"""The proof of `profile` proves something: what is billed twice, missing or untold is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.proofs.profile import HOSTS, ProfileKills, ProfilePlay, missing_in


def played(directory: Path, kills: ProfileKills) -> ProfilePlay:
    """One in which everything was billed once."""
    play = ProfilePlay(kills, directory, seed=0)
    play.provider._socket.close()  # nobody comes
    play.code, play.n_ended = 0, len(HOSTS) * play.n
    for host in HOSTS:
        for i in range(play.n):
            play.answers.bill[host, f"Say {i}"] += 1
    return play


def test_what_is_billed_once_is_no_fault(tmp_path: Path) -> None:
    assert played(tmp_path, ProfileKills("command", 1)).figures()["faults"] == 0


@pytest.mark.parametrize("change", [1, -1])
def test_what_is_billed_twice_or_missing_is_a_fault(tmp_path: Path, change: int) -> None:
    play = played(tmp_path, ProfileKills("command", 1))
    play.answers.bill[HOSTS[0], "Say 0"] += max(change, 0)
    play.n_ended += min(change, 0)

    assert play.figures()["faults"] > 0


def test_an_interruption_that_is_not_told_is_a_fault(tmp_path: Path) -> None:
    play = played(tmp_path, ProfileKills("tree", 1, tree=True))
    play.answers.bill[HOSTS[0], "Say 99"] += 1

    assert play.figures()["faults"] == 1
    play.told = {"plan": {"interrupted": 1}}
    assert play.figures()["faults"] == 0


def test_a_bill_that_is_too_high_is_a_fault(tmp_path: Path) -> None:
    play = played(tmp_path, ProfileKills("money", 1, share_of_money=0.5))
    play.told = {"run": {"out_of_money": True}}
    assert play.n_ended == play.answers.bill.total()

    assert play.figures()["over_calls"] == len(HOSTS) * play.n / 2
    assert play.figures()["faults"] == 1


def test_kills_that_hit_nothing_prove_nothing() -> None:
    assert missing_in({"command": {"hit": 0}, "tree": {"interrupted": 2}})
