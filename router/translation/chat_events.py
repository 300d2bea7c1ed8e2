"""Streams of Chat Completions: read chunk by chunk, and said."""

from __future__ import annotations

from typing import Any

import msgspec

from router.translation import counts
from router.translation.chat_answer import FINISHES, SaidCall, calls_of, spoken, stop_named
from router.translation.completion import (
    Arguments,
    Begun,
    CallBegun,
    CallEnded,
    Counted,
    Declined,
    Event,
    Piece,
    Stopped,
)
from router.translation.event_writer import EventWriter, Saying
from router.translation.fitting import Fitting
from router.translation.parts import NO_ARGUMENTS, is_json_object
from router.translation.prompt import Text, Thought
from telemetry.wire.chat import AnswerPart, ChoicePart, parse_part, says_something
from telemetry.wire.sse import DONE
from telemetry.wire.usage import id_of

FIELDS = {Thought: "reasoning_content", Text: "content", Declined: "refusal"}
"""Where a piece of a message is said."""


class ChatEventReader:
    """Reads one stream; of several choices the first."""

    def __init__(self) -> None:
        self._begun: Begun | None = None
        self._calls: list[_Call] = []
        self._unbegun: _Call | None = None  # of whose name more may come

    def feed(self, data: bytes) -> list[Event] | None:
        """Return what the data of one event says; None where nobody can tell."""
        chunk = parse_part(data)
        if chunk is None or chunk.is_odd:
            return None
        choice = _first_of(chunk)
        said = choice.delta or choice.message or {}
        out: list[Event] = []
        if self._begun is None:
            answer_id = id_of(chunk.id)
            if answer_id or says_something(said) or choice.finish_reason:
                self._begun = Begun(answer_id, id_of(chunk.model))
                out.append(self._begun)
        if pieces := [Piece(type(part), part.text) for part in spoken(said)]:
            out += [*self.finish(), *pieces]
        calls = calls_of(said)
        for place, call in enumerate(calls):  # what comes at once is each one of its own
            out += self._follow(SaidCall(call, place if len(calls) > 1 else None))
        if choice.finish_reason:
            sequence = id_of(choice.stop_reason)
            out += [*self.finish(), Stopped(stop_named(choice.finish_reason), sequence)]
        if (count := counts.count_of(chunk.reported)) is not None:
            out.append(Counted(count))
        return out

    def _follow(self, said: SaidCall) -> list[Event]:
        """Return what a piece of a call says."""
        call = self._call_of(said)
        out = [] if call is self._unbegun else self.finish()
        if not call.is_begun:
            call.take_name(said)
            self._unbegun = call
        if said.arguments:
            call.said.append(said.arguments)
            out += [*self.finish(), Arguments(call.place, said.arguments)]
        return out

    def finish(self) -> list[Event]:
        """Return the begin of the call that waits for more of its name, if there is one."""
        call, self._unbegun = self._unbegun, None
        if call is None or not (call.name or call.said):
            return []
        call.is_begun = True
        return [CallBegun(call.place, call.id or "", call.name, call.is_custom)]

    def _call_of(self, said: SaidCall) -> _Call:
        """Return the call that a piece belongs to.

        Some servers number no calls, or all of them alike, and some give every piece a name and
        an id of its own: another call begins with a name, where the one before is complete.
        """
        alike = (call for call in reversed(self._calls) if said.index in (None, call.index))
        found = next(alike, None)
        if found is not None and said.name and (said.id or said.index is None):
            is_other = said.id is None or said.id != found.id
            is_marked = said.id is not None and said.index is None
            if is_other and (is_marked or found.is_complete):
                found = None
        if found is None:
            found = _Call(said, len(self._calls))
            self._calls.append(found)
        return found


class _Call:
    """A call of a tool, as far as it came."""

    __slots__ = ("id", "index", "is_begun", "is_custom", "name", "place", "said")

    def __init__(self, said: SaidCall, place: int) -> None:
        self.id, self.index, self.name = said.id, said.index, ""
        self.place = place
        self.is_custom = False
        self.said: list[str] = []
        self.is_begun = False

    def take_name(self, said: SaidCall) -> None:
        """Add what a piece says of the name; some servers say all of it again beside its id."""
        is_again = said.id is not None and (said.id != self.id or said.name == self.name)
        if not (self.name and is_again):
            self.name += said.name
        self.id = self.id or said.id
        self.is_custom |= said.is_custom

    @property
    def is_complete(self) -> bool:
        """Whether no piece can follow."""
        ends = bool(self.said) and self.said[-1].rstrip().endswith("}")
        return ends and is_json_object("".join(self.said))


_NOTHING = ChoicePart()


def _first_of(chunk: AnswerPart) -> ChoicePart:
    for choice in chunk.choices or ():
        if choice.index == 0 or not isinstance(choice.index, int):
            return choice
    return _NOTHING


class ChatEventWriter(EventWriter):
    """Says a streamed answer; its calls may come mixed."""

    ping = b": ping\n\n"

    def __init__(self, fitting: Fitting, *, created: int, shows_usage: bool) -> None:
        """Begin.

        Args:
            fitting: what the answer is fitted to.
            created: when the answer was made, in seconds since 1970.
            shows_usage: the caller asked for the chunk that tells of it.
        """
        super().__init__(fitting)
        self._created = created
        self._shows_usage = shows_usage
        self._places: dict[int, int] = {}  # of calls, by their index
        self._silent: set[int] = set()  # indices of calls without anything they take

    def _begin(self, begun: Begun) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def _say(self, event: Saying) -> bytes:
        match event:
            case Piece(of, text):
                return self._chunk({FIELDS[of]: text}) if text else b""
            case CallBegun():
                return self._begin_call(event)
            case Arguments(index, text):
                if not text or index not in self._places:
                    return b""
                if text.strip():
                    self._silent.discard(index)
                return self._arguments(index, text)
            case CallEnded(index):
                if index not in self._silent:
                    return b""
                self._silent.discard(index)
                return self._arguments(index, NO_ARGUMENTS)

    def _begin_call(self, call: CallBegun) -> bytes:
        if call.index in self._places:
            return b""
        place = self._places[call.index] = len(self._places)
        self._silent.add(call.index)
        kind, takes = ("custom", "input") if call.is_custom else ("function", "arguments")
        said = {"index": place, "id": call.id, "type": kind, kind: {"name": call.name, takes: ""}}
        return self._chunk({"tool_calls": [said]})

    def _arguments(self, index: int, text: str) -> bytes:
        said = {"index": self._places[index], "function": {"arguments": text}}
        return self._chunk({"tool_calls": [said]})

    def _end(self) -> bytes:
        out = [self._arguments(index, NO_ARGUMENTS) for index in sorted(self._silent)]
        out.append(self._chunk({}, finish=FINISHES[self.stop]))
        if self._shows_usage and self.count is not None:
            out.append(self._event({"choices": [], "usage": counts.as_chat(self.count)}))
        return b"".join([*out, b"data: ", DONE, b"\n\n"])

    def _chunk(self, delta: dict[str, Any], *, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage = {"usage": None} if self._shows_usage else {}
        return self._event({"choices": [choice], **usage})

    def _event(self, said: dict[str, Any]) -> bytes:
        assert self.begun is not None
        head = {
            "id": self.begun.id or "",
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self.begun.model or "",
        }
        return b"data: " + msgspec.json.encode(head | said) + b"\n\n"
