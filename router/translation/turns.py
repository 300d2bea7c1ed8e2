"""The turns of a conversation: who says what, in an order that every dialect can say."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from router.translation.prompt import (
    Part,
    Talk,
    Text,
    ToolResult,
    ToolUse,
    TurnRole,
    Untranslatable,
)


class Utterance(Struct, frozen=True):
    """What one message or item of a request says, and where it stands there."""

    role: TurnRole
    parts: tuple[Part, ...]
    path: str


def conversation(said: Sequence[Utterance]) -> tuple[tuple[str, ...], tuple[Talk, ...]]:
    """Return what the system says before all others, and the turns after it.

    Raises:
        Untranslatable: a tool's result does not answer a call right before it, or a call has no
            result.
    """
    merged = _merged(said)
    first = merged[0] if merged and merged[0].role is TurnRole.SYSTEM else None
    rest = merged[1:] if first else merged
    _require_order(rest)
    texts = [part.text for part in first.parts if isinstance(part, Text)] if first else []
    turns = tuple(Talk(role=one.role, parts=one.parts) for one in rest)
    return tuple(text for text in texts if text), turns


def _merged(said: Sequence[Utterance]) -> list[Utterance]:
    """Return turns of which no two in a row are of one role; empty text says nothing in them."""
    gathered: list[tuple[TurnRole, list[Part], str]] = []
    for one in said:
        if not gathered or gathered[-1][0] is not one.role:
            gathered.append((one.role, [], one.path))
        gathered[-1][1].extend(one.parts)
    return [Utterance(role, _without_empty(parts), path) for role, parts, path in gathered]


def _without_empty(parts: list[Part]) -> tuple[Part, ...]:
    return tuple(part for part in parts if part != Text("")) or (Text(""),)


def _require_order(turns: Sequence[Utterance]) -> None:
    before: dict[str, ToolUse] = {}
    for turn in turns:
        _require_answers(turn, before)
        calls = [part for part in turn.parts if isinstance(part, ToolUse)]
        before = {call.id: call for call in calls}
        if len(before) < len(calls):
            raise Untranslatable(turn.path, "two tool calls at once have the same id")
    if before:
        raise Untranslatable(turns[-1].path, "a tool call has no result after it")


def _require_answers(turn: Utterance, calls: dict[str, ToolUse]) -> None:
    """Refuse a turn that does not begin with the results of these calls, one each."""
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    if any(not isinstance(part, ToolResult) for part in turn.parts[: len(results)]):
        raise Untranslatable(turn.path, "a tool's result stands after other content")
    answered = [result.call_id for result in results]
    for result in results:
        call = calls.get(result.call_id)
        if call is None or call.is_custom is not result.is_custom:
            raise Untranslatable(turn.path, "a tool's result answers no call right before it")
    if len(set(answered)) < len(answered):
        raise Untranslatable(turn.path, "a tool call has two results")
    if set(answered) < set(calls):
        raise Untranslatable(turn.path, "a tool call has no result right after it")
