"""What decision and policy see of a call, whatever dialect it came in."""

from __future__ import annotations

from msgspec import Struct


class Structure(Struct, frozen=True):
    """What of a request structural rules may look at."""

    tools: tuple[str, ...] = ()
    has_schema: bool = False
    has_image: bool = False
    system: str = ""
