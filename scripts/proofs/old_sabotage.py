"""Faults in what is put back of old decisions, made behind the parts' back."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

from scripts.proofs.old_run import JOBS, WORKERS, OldRun
from scripts.proofs.old_words import OldWord
from scripts.proofs.old_world import N_SHARDS
from scripts.proofs.sabotage import NothingToSabotage
from telemetry import keys
from telemetry.tokens import nonce_of
from workers.folding.thawed import THAWED_AT_BYTES

FIND_S = 25.0
"""The job looks every five seconds, once it runs."""


class OldSabotage(StrEnum):
    """What is done."""

    FORGET = "forget"  # what was said before is emptied where it was put back
    LOSE = "lose"  # a word that waits for the archive is taken away


def forget_what_was_said(run: OldRun, words: Sequence[OldWord]) -> None:
    """Empty every row that is put back, before a worker reads it."""
    said_of = {number for word in words for number in word.meant}
    nonces = {nonce_of(run.month.decisions[number].token) for number in said_of}

    def try_it() -> bool:
        n = 0
        for shard in range(N_SHARDS):
            for nonce, row in run.client.hgetall(keys.thawed(shard)).items():
                if nonce in nonces and len(row) > THAWED_AT_BYTES:
                    run.client.hset(keys.thawed(shard), nonce, row[:THAWED_AT_BYTES])
                    n += 1
        return n > 0

    _wait_for_cold(run)
    with _frozen(run, WORKERS):
        if not run.watch(try_it, for_s=FIND_S):
            raise NothingToSabotage("nothing was put back in time")


def lose_a_word(run: OldRun, words: Sequence[OldWord]) -> None:
    """Take away all that was ever said of a decision, while it waits for the archive."""
    events: dict[int, set[bytes]] = {}
    for word in words:
        for number in word.meant:
            events.setdefault(number, set()).add(word.event)
    only = {
        event + nonce_of(run.month.decisions[number].token)
        for number, (event, *others) in events.items()
        if not others
    }

    def try_it() -> bool:
        for shard in range(N_SHARDS):
            for name in run.client.hkeys(keys.cold(shard)):
                if name in only and run.client.hdel(keys.cold(shard), name):
                    return True
        return False

    with _frozen(run, (JOBS,)):
        _wait_for_cold(run)
        if not run.watch(try_it, for_s=FIND_S):
            raise NothingToSabotage("no word waited for the archive")


def _wait_for_cold(run: OldRun) -> None:
    def is_cold() -> bool:
        return any(run.client.hlen(keys.cold(shard)) for shard in range(N_SHARDS))

    if not run.watch(is_cold, for_s=FIND_S):
        raise NothingToSabotage("no word was kept for the archive")


@contextmanager
def _frozen(run: OldRun, names: tuple[str, ...]) -> Iterator[None]:
    pids = [run.stack.processes[name].pid for name in names]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


OLD_SABOTAGES: dict[OldSabotage, Callable[[OldRun, Sequence[OldWord]], None]] = {
    OldSabotage.FORGET: forget_what_was_said,
    OldSabotage.LOSE: lose_a_word,
}
