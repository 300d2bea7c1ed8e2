"""Figures of a proof, told on a line or as JSON, and the exit code that follows."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any


def tell_figures(figures: dict[str, Any], missing: Sequence[str], *, as_json: bool) -> int:
    """Print the figures; return the exit code: 1 for faults, unanswered calls, or what is missing.

    Args:
        figures: with `faults`, `unanswered`, and what is `shown` of faults on stderr.
        missing: what never happened, and must for the proof to mean something.
    """
    for one in figures.pop("shown"):
        print(json.dumps(one), file=sys.stderr)
    if missing:
        print(f"never happened: {', '.join(missing)}", file=sys.stderr)
    print(json.dumps(figures) if as_json else ", ".join(f"{k} {v}" for k, v in figures.items()))
    return 1 if figures["faults"] or figures["unanswered"] or missing else 0
