"""A configuration that is to be written: its parts, and as YAML of few lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something of a source that the draft does not hold."""

    place: str  # as the source writes it: router_settings.routing_strategy
    why: str


@dataclass(frozen=True, slots=True)
class Draft:
    """Sections as the file has them; each value is what YAML would be read as."""

    providers: Mapping[str, Mapping[str, Any]]
    endpoints: tuple[Mapping[str, Any], ...]
    app: str
    app_entry: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    strategies: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    organisation: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()  # that are said once the file is written
