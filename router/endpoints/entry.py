"""What every part of the configuration is written with: entries, names, and what scalars mean."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any, ClassVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from router.endpoints.scalars import as_meant, kinds_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@+-]{0,127}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def is_name(text: str) -> bool:
    """Return whether a text may be a name."""
    return _NAME.fullmatch(text) is not None


def _checked_name(value: str) -> str:
    if not is_name(value):
        raise ValueError("use 1 to 128 letters, digits and . _ / @ + -; no spaces, no colons")
    return value


Name = Annotated[str, AfterValidator(_checked_name)]
"""Ids and names appear in headers and metrics."""


class Entry(BaseModel):
    """Base of all configuration entries: a key that is not known is an error, not a comment."""

    foreign: ClassVar[frozenset[str]] = frozenset()
    """Fields that other programs have, refused with what to write here: no slips of ours."""
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_as_meant(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse what only looks like a number or a truth value; others would be read into it."""
        field = cls.model_fields[info.field_name or ""]
        return as_meant(value, kinds_of(field.annotation))


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):  # no such name; no name at all, or a folder of them
        raise ValueError("no such time zone; write one such as Europe/Berlin or UTC") from None
    return value


TimeZone = Annotated[str, AfterValidator(_zone)]
Tokens = Annotated[int, Field(gt=0, le=1_000_000_000)]
"""A hundred times the longest context that there is."""
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,64}$")]


def _day(value: object) -> date:
    if isinstance(value, date):
        return value
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise ValueError("write a day of the calendar, such as 2026-07-01")


Day = Annotated[date, BeforeValidator(_day)]
"""A day begins and ends in UTC."""


def list_or_map(value: object) -> str:
    """Return which of the two forms a field was written in."""
    return "map" if isinstance(value, dict) else "list"
