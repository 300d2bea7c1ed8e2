"""`scripts/prove NAME …`: runs one proof; the rest of the line is the proof's own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

PROOFS = (
    "pipeline",
    "failover",
    "direct",
    "overload",
    "streams",
    "secrets",
    "old",
    "explain",
    "policy",
    "steady",
    "agent",
    "classify",
    "profile_truth",
    "episodes",
    "first_day",
    "profile",
    "budget",
    "savings",
    "pacing",
    "verdict",
)
"""Each is the module of its name."""


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
    proof = import_module(f"scripts.proofs.{name}")  # all of them take a second of CPU
    return int(proof.main([*argv[:at], *argv[at + 1 :]]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
