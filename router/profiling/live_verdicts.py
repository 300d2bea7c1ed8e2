"""What was found of an endpoint, beside what is declared of it, and which line to change."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import yaml
from msgspec import Struct, structs

from router.config.entries import File
from router.config.lines import Spots, spot_of
from router.endpoints.capabilities import LISTED, Capability, Reasoning
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import EndpointEntry
from router.endpoints.key_pieces import KEY
from router.endpoints.model_names import is_any_of
from router.profiling.live import STREAM_USAGE, LiveResult
from router.profiling.live_entries import LiveSkipped
from router.profiling.live_words import in_short

MODEL = "model"
MOST_NAME = 200
"""Characters of a name that may be listed."""


class LiveVerdict(StrEnum):
    """How what was found stands to what is declared."""

    VERIFIED = "verified"
    DISAGREES = "disagrees"
    UNKNOWN = "not known"  # it could not be told


class ComparedFact(Struct, frozen=True):
    """One thing that an endpoint does or does not."""

    what: str
    declared: str  # "yes (default)": nobody said anything
    found: str
    verdict: LiveVerdict
    detail: str = ""


class CheckedEndpoint(Struct, frozen=True):
    """All that is told of one endpoint."""

    endpoint: str
    app: str | None = None
    dialect: str | None = None
    reason: str = ""  # why it cannot be used, or was not called
    fix: str = ""
    is_skipped: bool = False
    is_failure: bool = False
    compared: list[ComparedFact] = []
    changes: list[str] = []  # lines to write, with where
    calls: int = 0
    cost_usd: float = 0.0
    cost_is_estimated: bool = False  # an answer did not say what it used
    most_usd: float | None = None  # as it was shown before; None: no bound was known
    over: str = ""  # what its answers report that they may not have used

    def as_json(self) -> dict[str, Any]:
        """Return it as one object."""
        rows = [{**structs.asdict(one), "verdict": one.verdict.value} for one in self.compared]
        return {**structs.asdict(self), "compared": rows}


def skipped(endpoint: str, why: LiveSkipped) -> CheckedEndpoint:
    """Return what is told of an endpoint that was not called."""
    return CheckedEndpoint(
        endpoint, reason=why.reason, fix=why.fix, is_skipped=True, is_failure=why.is_failure
    )


def compare(
    result: LiveResult, endpoint: Endpoint, entries: File, spots: Spots, file: str
) -> CheckedEndpoint:
    """Return what was found beside what is declared.

    Args:
        endpoint: as it is declared.
        spots: where everything in the file stands.
    """
    own = CheckedEndpoint(
        result.endpoint,
        result.app,
        result.dialect.value,
        reason=result.reason,
        fix=result.fix,
        is_failure=not result.is_reachable,
        calls=result.calls,
        cost_usd=result.cost_nano / 1e9,
        cost_is_estimated=result.is_estimated,
        over=result.over,
    )
    if not result.is_reachable:
        return own
    compared = [_model(result, endpoint)]
    for what, found in result.found.items():
        holds, is_said = _declared(what, endpoint, entries)
        compared.append(
            ComparedFact(
                what,
                _truth(holds) + ("" if is_said else " (default)"),
                "?" if found.is_there is None else _truth(found.is_there),
                _verdict(found.is_there, holds),
                found.detail,
            )
        )
    wrong = {one.what for one in compared if one.verdict is LiveVerdict.DISAGREES}
    changes = _changes(wrong, result, endpoint, entries)
    return structs.replace(
        own,
        is_failure=bool(wrong),
        compared=compared,
        changes=[_placed(change, endpoint, spots, file) for change in changes],
    )


def found_of(result: LiveResult) -> dict[str, bool]:
    """Return what could be told."""
    return {w: one.is_there for w, one in result.found.items() if one.is_there is not None}


def _verdict(found: bool | None, holds: bool) -> LiveVerdict:
    if found is None:
        return LiveVerdict.UNKNOWN
    return LiveVerdict.VERIFIED if found is holds else LiveVerdict.DISAGREES


def _model(result: LiveResult, endpoint: Endpoint) -> ComparedFact:
    """Compare the model that answers name with the one that is asked for."""
    asked = endpoint.upstream_model
    if result.served is None:
        return ComparedFact(MODEL, asked, "?", LiveVerdict.UNKNOWN, "its answers name no model")
    shown = in_short(result.served) or "?"
    if endpoint.served_as is None:
        return ComparedFact(MODEL, asked, shown, LiveVerdict.UNKNOWN, "opaque: any may answer")
    is_meant = is_any_of(result.served, endpoint.served_as)
    verdict = LiveVerdict.VERIFIED if is_meant else LiveVerdict.DISAGREES
    return ComparedFact(MODEL, asked, shown, verdict, "" if is_meant else "another model answers")


def _declared(what: str, endpoint: Endpoint, entries: File) -> tuple[bool, bool]:
    """Return what holds, and whether somebody said so."""
    if what == STREAM_USAGE:
        entry = entries.endpoints[endpoint.index]
        return endpoint.stream_usage, STREAM_USAGE in entry.model_fields_set
    said = endpoint.profile.said.get(Capability(what))
    return (True, False) if said is None else (said, True)


def _changes(
    wrong: set[str], result: LiveResult, endpoint: Endpoint, entries: File
) -> list[tuple[str, str]]:
    """Return the fields to write, each with its name."""
    entry = entries.endpoints[endpoint.index]
    out = []
    if MODEL in wrong:
        out.append(("served_as", served_as_line(entry.served_as, result.served or "")))
    if STREAM_USAGE in wrong:
        found = result.found[STREAM_USAGE].is_there
        out.append((STREAM_USAGE, f"{STREAM_USAGE}: {_word(found)}"))
    able = {
        Capability(what): bool(result.found[what].is_there)
        for what in result.found
        if what in wrong and what != STREAM_USAGE
    }
    if able.get(Capability.REASONING) is False:  # more than that is not tried of who never thinks
        if entry.reasoning is not None or Capability.REASONING not in _named(entry):
            out.append(("reasoning", f"reasoning: {Reasoning.NEVER.value}"))
        if Capability.REASONING not in _named(entry):
            del able[Capability.REASONING]
    if able:
        out.append(("capabilities", _capabilities(entry, able)))
    return out


def served_as_line(listed: Sequence[str], served: str) -> str:
    """Return the field that lists a name; of what no file could list, only that it is another."""
    if in_short(served) != served or len(served) > MOST_NAME or KEY in served:
        return "upstream_model: correct it; what answers has a name that cannot be listed"
    names = yaml.safe_dump(
        [*listed, served], default_flow_style=True, allow_unicode=True, width=math.inf
    )
    return f"served_as: {names.strip()}, if that is the model meant; else correct its name"


def _named(entry: EndpointEntry) -> Mapping[Capability, bool]:
    named = entry.capabilities
    return dict.fromkeys(named, True) if isinstance(named, list) else dict(named or {})


def _capabilities(entry: EndpointEntry, able: Mapping[Capability, bool]) -> str:
    """Return the field as it is to be, in the form in which it is written.

    A list rules out by what it leaves out only what lists always did; of others a map says it.
    """
    named = _named(entry)
    if isinstance(entry.capabilities, list) and all(c in LISTED or able[c] for c in able):
        kept = [one for one in named if able.get(one, True)]
        listed = [*kept, *(one for one in able if able[one] and one not in kept)]
        return f"capabilities: [{', '.join(one.value for one in listed)}]"
    said = {**entry.said, **able} if isinstance(entry.capabilities, list) else {**named, **able}
    shown = ", ".join(f"{one.value}: {_word(said[one])}" for one in said)
    return f"capabilities: {{{shown}}}"


def _placed(change: tuple[str, str], endpoint: Endpoint, spots: Spots, file: str) -> str:
    """Return a change with the file and line where it goes."""
    (field, text), name = change, endpoint.id
    where = ("endpoints", endpoint.index, field)
    place = where if where in spots else where[:2]
    return f"{file}:{spot_of(spots, place).line}: endpoint {name}: {text}"


def _truth(value: bool) -> str:
    return "yes" if value else "no"


def _word(value: object) -> str:
    return "true" if value else "false"
