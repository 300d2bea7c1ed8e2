"""An answer as it can stand in its conversation: what a caller is told, it can send back.

Models make up names of tools, and servers give calls ids that others refuse, or the same ids in
every turn. Whole or streamed, an answer is fitted in one way.
"""

from __future__ import annotations

import hashlib
import re

from msgspec.structs import replace

from router.translation.chat_request_writer import LONGEST_NAME
from router.translation.completion import CallBegun, Completion, Stop
from router.translation.prompt import Prompt, ToolUse
from router.translation.tools import NAME

NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
UNNAMED = "unnamed"
"""What a call without a name calls."""
LONGEST_STEM = 24
"""Characters of an answer's id that ids of calls are made of: OpenAI takes ids of up to 40."""


class Fitting:
    """What one answer is fitted to; it takes note of the ids that it gives."""

    __slots__ = ("_any_id", "_n_calls", "_stops", "_taken", "_tools")

    def __init__(self, asked: Prompt, *, any_id: bool = False) -> None:
        """Begin.

        Args:
            asked: the conversation that the answer goes on from.
            any_id: ids may hold any characters: neither side speaks Messages.
        """
        self._any_id = any_id
        self._n_calls = 0
        self._stops = frozenset(asked.stop)
        self._tools = {tool.name for tool in asked.tools}
        parts = (part for turn in asked.turns for part in turn.parts)
        self._taken = {part.id for part in parts if isinstance(part, ToolUse)}

    def answer(self, answer: Completion) -> Completion:
        """Return a whole answer, fitted."""
        parts = tuple(
            replace(part, id=self._id(part.id, answer.id), name=self._name(part.name))
            if isinstance(part, ToolUse)
            else part
            for part in answer.parts
        )
        stop, sequence = self.end(answer.stop, answer.stop_sequence)
        return replace(answer, parts=parts, stop=stop, stop_sequence=sequence)

    def begun(self, call: CallBegun, answer_id: str | None) -> CallBegun:
        """Return a call that begins in a stream, fitted."""
        return replace(call, id=self._id(call.id, answer_id), name=self._name(call.name))

    def end(self, stop: Stop, sequence: str | None) -> tuple[Stop, str | None]:
        """Return why an answer ends, and which stop sequence of the caller's came, if one did.

        Chat Completions has no reason of its own for that; some servers name the sequence.
        """
        if stop is Stop.END and sequence in self._stops:
            stop = Stop.SEQUENCE
        return stop, sequence if stop is Stop.SEQUENCE else None

    def _id(self, given: str, answer_id: str | None) -> str:
        """Return the id of the next call: its own, where it may be told and none has it."""
        found, place = given, self._n_calls
        self._n_calls += 1
        is_fit = bool(given) and (self._any_id or NAME.fullmatch(given) is not None)
        while not is_fit or found in self._taken:
            found = f"call_{_stem(answer_id)}_{place}" if answer_id else f"call_{place}"
            is_fit, place = True, place + 1
        self._taken.add(found)
        return found

    def _name(self, given: str) -> str:
        """Return a name that every dialect takes; what is made up names no tool by chance."""
        if given in self._tools or (len(given) <= LONGEST_NAME and NAME.fullmatch(given)):
            return given
        stem = NOT_IN_NAMES.sub("_", given)[:LONGEST_NAME] or UNNAMED
        found, place = stem, 0
        while found in self._tools:
            place += 1
            found = f"{stem[: LONGEST_NAME - 8]}_{place}"
        return found


def _stem(answer_id: str) -> str:
    if len(answer_id) <= LONGEST_STEM and NAME.fullmatch(answer_id):
        return answer_id
    return hashlib.blake2s(answer_id.encode(), digest_size=12).hexdigest()
