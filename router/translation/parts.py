"""What an answer says, part by part, in the one form that all dialects share.

No part is empty, no two of one kind but calls follow each other, and every call of a tool that
takes JSON has some. Of what answers may hold beside that nothing is carried: citations, log
probabilities, sound, images, sealed thoughts, what tools of the provider's found.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from router.translation.completion import Completion, Declined, Stop
from router.translation.prompt import Text, Thought, ToolUse

Said = Thought | Text | Declined | ToolUse
NO_ARGUMENTS = "{}"


def joined(parts: Iterable[Said]) -> tuple[Said, ...]:
    """Return parts without the empty ones; those of one kind that follow each other are one."""
    out: list[Said] = []
    for part in parts:
        if isinstance(part, ToolUse):
            out.append(with_arguments(part))
        elif part.text:
            last = out[-1] if out else None
            if not isinstance(last, ToolUse) and isinstance(last, type(part)):
                out[-1] = type(part)(last.text + part.text)
            else:
                out.append(part)
    return tuple(out)


def shown(parts: Iterable[Said], *, thoughts: bool) -> tuple[Said, ...]:
    """Return parts as they are shown one after another.

    Blanks alone are no part: models leave some before a call, and Anthropic's own servers refuse
    them when the conversation comes back. What they stood between is one part, as in a stream,
    where nobody knows yet what follows.

    Args:
        thoughts: whether the reader gets to see what was thought.
    """
    out: list[Said] = []
    blank: Thought | Text | Declined | None = None  # it begins a part only if more of it follows
    for part in joined(p for p in parts if thoughts or not isinstance(p, Thought)):
        before, blank = blank, None
        if isinstance(part, ToolUse):
            out.append(part)
            continue
        last = out[-1] if out else None
        if not isinstance(last, ToolUse) and isinstance(last, type(part)):
            out[-1] = type(part)(last.text + part.text)
            continue
        text = (before.text if isinstance(before, type(part)) else "") + part.text
        if text.strip():
            out.append(type(part)(text))
        else:
            blank = type(part)(text)
    return tuple(out)


def with_arguments(call: ToolUse) -> ToolUse:
    """Return a call that says what its tool is called with, also where that is nothing."""
    if call.is_custom or call.arguments.strip():
        return call
    return ToolUse(call.id, call.name, NO_ARGUMENTS)


def settled(stop: Stop | None, *, calls: bool) -> Stop:
    """Return why an answer ends, where what it holds tells more than it says.

    Clients go on by this: some servers end calls of tools like any other answer, and whoever
    is told to call tools that are not there has nothing to send back.
    """
    if calls and stop in (None, Stop.END):
        return Stop.TOOLS
    return Stop.END if stop is None or (stop is Stop.TOOLS and not calls) else stop


def stop_of(answer: Completion) -> Stop:
    """Return why a whole answer ends."""
    return settled(answer.stop, calls=any(isinstance(part, ToolUse) for part in answer.parts))


def is_json_object(text: str) -> bool:
    """Return whether it is an object, from its first to its last byte."""
    if not (text.lstrip().startswith("{") and text.rstrip().endswith("}")):
        return False
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return False
    return True
