"""Who says yes to a release, as it is written."""

from __future__ import annotations

from enum import StrEnum


class Releasing(StrEnum):
    """What becomes of a choice that a review finds better; what is lost is left in any case."""

    AUTO = "auto"  # it takes effect
    ASK = "ask"  # it is proposed, and waits for `pointsman release accept`
    FROZEN = "frozen"  # nothing is proposed; reports say what is held back
