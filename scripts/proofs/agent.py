"""The proof that an agent's session stays where it began, and what that is worth.
`scripts/prove agent`.

Sessions of twenty turns as Claude Code and Codex send them, with tools, a conversation that grows,
and a small model asked for titles beside it, meet two endpoints of one price list that keep prompt
caches for five minutes, in one sidecar without sockets, at handed-in times.

All calls of one session and role must be at one endpoint. The same calls are played with an
endpoint drawn anew for each: the difference in cost is what the caches are worth, and the judge
must find the changes. Then they are played once more, with users beside them who name no session,
and after an hour labels tell that one endpoint is better. What changes with a reason is counted by
it: a failure, and the two endings of stored draws, each at most once a draw.

faults: calls that left their session's endpoint without a reason.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from scripts.proofs.agent_play import AgentPlay, AgentSabotage, fates_of, sabotaged
from scripts.proofs.policy import without_logs
from scripts.proofs.told_figures import tell_figures

SESSIONS, QUICK_SESSIONS = 400, 40
SHOWN = 5


class AgentSettings(Struct, frozen=True):
    """What to play."""

    sessions: int
    seed: int = 0
    sabotage: AgentSabotage | None = None


def prove_agent(settings: AgentSettings) -> dict[str, Any]:
    """Play all sessions in three ways; return the figures."""
    with sabotaged(settings.sabotage):
        kept, news = _played(settings), _played(settings, has_news=True)
    with sabotaged(AgentSabotage.ANEW):
        anew = _played(settings)
    return worth_of(settings.sessions, kept, anew) | changes_in(kept, news)


def _played(settings: AgentSettings, *, has_news: bool = False) -> AgentPlay:
    with tempfile.TemporaryDirectory(prefix="pm-prove-") as directory, without_logs():
        play = AgentPlay(Path(directory), seed=settings.seed, has_news=has_news)
        asyncio.run(play.run(settings.sessions, settings.seed))
        return play


def worth_of(sessions: int, kept: AgentPlay, anew: AgentPlay) -> dict[str, Any]:
    """Return what sessions cost that stay, and that are drawn anew for each call."""
    book, book_anew = kept.hosts.books["session"], anew.hosts.books["session"]
    cost, cost_anew = (float(each.cost_usd) / sessions for each in (book, book_anew))
    return {
        "sessions": sessions,
        "usd_a_session": round(cost, 4),
        "usd_a_session_anew": round(cost_anew, 4),
        "cache_usd_a_session": round(cost_anew - cost, 4),
        "cached": round(book.cached_share, 4),
        "cached_anew": round(book_anew.cached_share, 4),
        "changes_anew": len(anew.found().faults),
    }


def changes_in(kept: AgentPlay, news: AgentPlay) -> dict[str, Any]:
    """Return what changed where calls stay, with and without news."""
    found = kept.found()
    found.add(news.found())
    return {
        "calls": found.n_calls,
        "faults": len(found.faults),
        "refused": kept.counts["refused"] + news.counts["refused"],
        "unanswered": kept.counts["unanswered"] + news.counts["unanswered"],
        "changes": dict(sorted(found.changes.items())),
        "draws_of_the_worse": fates_of(news),
        "shown": found.faults[:SHOWN],
    }


def missing_in(figures: dict[str, Any]) -> list[str]:
    """Return what never happened, and must for the proof to mean something."""
    fates = figures["draws_of_the_worse"]
    happened = {
        "failures": figures["changes"].get("failure", 0) > 0,
        "changes where each call draws anew": figures["changes_anew"] > 0,
        "a cache that is worth something": figures["cache_usd_a_session"] > 0,
    }
    for name in ("gain_coder", "dominated", "stayed_for_cache"):
        happened[name] = fates[name] > 0
    happened["an end of all dominated days"] = fates["kept"] == 0
    return [name for name, did in happened.items() if not did]


def main(argv: Sequence[str]) -> int:
    """Replay agents' sessions over endpoints with prompt caches; return the exit code."""
    parser = argparse.ArgumentParser(prog="scripts/prove agent", description=main.__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SESSIONS} sessions only")
    parser.add_argument("--sessions", type=int, help=f"how many; else {SESSIONS}")
    parser.add_argument("--seed", type=int, default=0, help="of all that is left to chance")
    parser.add_argument("--sabotage", choices=list(AgentSabotage), help="break a rule on purpose")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    sessions = QUICK_SESSIONS if options.quick else SESSIONS
    sessions = sessions if options.sessions is None else options.sessions
    if sessions < 1 or options.seed < 0:
        parser.error("--sessions is a whole number from 1, --seed one from 0")
    sabotage = AgentSabotage(options.sabotage) if options.sabotage else None
    began = time.monotonic()
    figures = prove_agent(AgentSettings(sessions, options.seed, sabotage))
    print(f"took {time.monotonic() - began:.0f} s", file=sys.stderr)
    return tell_figures(figures, missing_in(figures), as_json=options.json)
