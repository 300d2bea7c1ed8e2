"""Whether calls may be given to somebody to be tried, and why not."""

from __future__ import annotations

from router.config.rules import MergedPolicy

SENSITIVE = "sensitive data"
HIGH_STAKES = "high stakes"
ASKED_NOT_TO = "asked not to explore"


def why_held(policy: MergedPolicy) -> str:
    """Return why calls of a policy stay with what is chosen; empty where they may explore."""
    if policy.data_class.is_sensitive:
        return SENSITIVE
    if policy.rules.high_stakes:
        return HIGH_STAKES
    return ASKED_NOT_TO if policy.rules.no_exploring else ""


def may_explore(policy: MergedPolicy) -> bool:
    """Return whether a call may be given to somebody to be tried."""
    return not why_held(policy)
