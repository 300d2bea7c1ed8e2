"""`scripts/prove NAME …`: runs one proof; the rest of the line is the proof's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from scripts.proofs import (
    agent,
    budget,
    classify,
    direct,
    episodes,
    explain,
    failover,
    first_day,
    old,
    overload,
    pacing,
    pipeline,
    policy,
    profile,
    profile_truth,
    savings,
    secrets,
    steady,
    streams,
)

PROOFS: dict[str, Callable[[Sequence[str]], int]] = {
    "pipeline": pipeline.main,
    "failover": failover.main,
    "direct": direct.main,
    "overload": overload.main,
    "streams": streams.main,
    "secrets": secrets.main,
    "old": old.main,
    "explain": explain.main,
    "policy": policy.main,
    "steady": steady.main,
    "agent": agent.main,
    "classify": classify.main,
    "profile_truth": profile_truth.main,
    "episodes": episodes.main,
    "first_day": first_day.main,
    "profile": profile.main,
    "budget": budget.main,
    "savings": savings.main,
    "pacing": pacing.main,
}


def main(argv: Sequence[str]) -> int:
    """Return the exit code of the proof that is named first."""
    if argv and argv[0] in ("-h", "--help"):
        print(f"usage: scripts/prove NAME …; known: {', '.join(PROOFS)}; NAME --help says more")
        return 0
    name = next((word for word in argv if word in PROOFS), None)
    if name is None:
        said = f"there is no proof {argv[0]!r}" if argv else "name a proof"
        print(f"scripts/prove: {said}; known: {', '.join(PROOFS)}", file=sys.stderr)
        return 2
    at = argv.index(name)
    return PROOFS[name]([*argv[:at], *argv[at + 1 :]])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
