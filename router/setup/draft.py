"""A configuration that is to be written: its parts, and as YAML of few lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from router.config.flow import flow, scalar

MOST_LINES = 25
"""Of a file that a person is to read at once."""


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


def draft_yaml(
    draft: Draft, *, server: Mapping[str, Any] | None = None, starter_tasks: bool = False
) -> str:
    """Return the file in the order in which a reader asks: an entry a line.

    Where a person still reads all of it at once, providers take a line for each field.

    Args:
        server: what the file says of the process itself.
        starter_tasks: whether it turns the starter tasks on.
    """
    apart = _lines(draft, server or {}, starter_tasks, apart=True)
    lines = apart if len(apart) <= MOST_LINES else _lines(draft, server or {}, starter_tasks)
    return "\n".join(lines) + "\n"


def _lines(
    draft: Draft, server: Mapping[str, Any], starter_tasks: bool, *, apart: bool = False
) -> list[str]:
    lines = ["# Made by `pointsman init`; `pointsman check --effective` prints all that holds."]
    if server:
        lines.append(f"server: {flow(server)}")
    if starter_tasks:
        lines.append("starter_tasks: true")
    if draft.organisation:
        lines.append(f"organisation: {flow(draft.organisation)}")
    lines += _section("models", draft.models)
    lines += _section("providers", draft.providers, apart=apart)
    lines.append("endpoints:")
    lines += [f"  - {flow(endpoint)}" for endpoint in draft.endpoints]
    lines += _section("strategies", draft.strategies)
    lines += _section("apps", {draft.app: draft.app_entry})
    return lines


def _section(
    name: str, entries: Mapping[str, Mapping[str, Any]], *, apart: bool = False
) -> Iterator[str]:
    if entries:
        yield f"{name}:"
    for key, entry in entries.items():
        if apart and entry:
            yield f"  {scalar(key)}:"
            yield from (f"    {scalar(field)}: {flow(value)}" for field, value in entry.items())
        else:
            yield f"  {scalar(key)}: {flow(entry)}"
