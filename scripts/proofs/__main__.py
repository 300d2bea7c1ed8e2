"""`scripts/prove NAME …`: runs one proof; the rest of the line is the proof's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from scripts.proofs import pipeline

PROOFS: dict[str, Callable[[Sequence[str]], int]] = {"pipeline": pipeline.main}


def main(argv: Sequence[str]) -> int:
    """Return the exit code of the proof that is named first."""
    name, *rest = argv or [""]
    if name not in PROOFS:
        said = f"there is no proof {name!r}" if name else "name a proof"
        print(f"scripts/prove: {said}; known: {', '.join(PROOFS)}", file=sys.stderr)
        return 0 if name in ("-h", "--help") else 2
    return PROOFS[name](rest)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
