"""How complex a call is, by what of its structure stays through a conversation; pure."""

from __future__ import annotations

from router.config.levels import Complexity
from router.dialects.request import Structure

HARD_TOOLS = 8
"""From so many on an agent is at work that plans. UNVALIDATED."""


def complexity_of(structure: Structure) -> Complexity:
    """Return how complex a call is, where nobody says: by tools and schema, and by no word."""
    n_tools = structure.n_tools
    if n_tools >= HARD_TOOLS or (n_tools and structure.has_schema):
        return Complexity.HARD
    return Complexity.NORMAL if n_tools or structure.has_schema else Complexity.EASY
