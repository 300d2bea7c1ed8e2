"""Streams of Chat Completions, and of legacy ones: choices with finish reasons, a terminator."""

from __future__ import annotations

import json
from typing import Any

from router.dialects.stream import LINE, EventStream, is_named_error
from telemetry.wire.chat import AnswerPart, ChoicePart, has_failed, parse_part, says_something
from telemetry.wire.lenient import read_leniently
from telemetry.wire.pieces import CHAT, read_piece
from telemetry.wire.said import bytes_said
from telemetry.wire.sse import DONE, data_of
from telemetry.wire.thoughts import IN_CHAT, may_hold, message_marks
from telemetry.wire.usage import id_of, usage_of


class _Choice:
    """How far one of the alternatives has come."""

    __slots__ = ("finished", "late", "spoke")

    def __init__(self) -> None:
        self.spoke = False  # in an event without a finish reason
        self.finished = False
        self.late = False  # content came after the finish reason

    @property
    def is_trusted(self) -> bool:
        return self.spoke and self.finished and not self.late


class ChatStream(EventStream):
    """What one stream has shown so far."""

    __slots__ = ("_choices", "_has_end", "_hide_usage", "_n_choices", "_tier")

    def __init__(self, *, hide_usage: bool, n_choices: int = 1) -> None:
        super().__init__()
        self._hide_usage = hide_usage
        self._n_choices = n_choices
        self._choices: dict[int, _Choice] = {}
        self._has_end = False  # of any of them
        self._tier: Any = None

    @property
    def finished(self) -> bool:
        """Whether every choice that there is has its finish reason."""
        return bool(self._choices) and all(c.finished for c in self._choices.values())

    @property
    def trusted(self) -> bool:
        """Whether the finish reasons say the truth: content came before each, and none after it.

        Some providers send one with every piece.
        """
        if not self._has_end or len(self._choices) < self._n_choices:
            return False
        return all(c.is_trusted for c in self._choices.values())

    def _goes_on(self, event: bytes) -> bool:
        if self.id is None or not event.startswith(LINE) or b"\n" in event:
            return False
        piece = read_piece(CHAT, event[len(LINE) - 1 :])
        if piece is None or piece.object == "error":
            return False
        part = piece.choices[0]
        choice = self._choices.get(part.index)
        if choice is None or choice.finished:
            return False
        self._tier = piece.service_tier or self._tier
        said_bytes = part.said_bytes
        if said_bytes is None:
            return True
        self.spoke = choice.spoke = True
        self.n_pieces += 1
        self.said_bytes += said_bytes
        return True

    def _read(self, event: bytes) -> bool:
        """Take note of one event; return whether it is the usage chunk that only we asked for."""
        data = data_of(event)
        if not data:
            return False
        if data == DONE:
            self.done = True
            return self.failed and not self.told  # our own event, which tells of it, comes last
        chunk = self._parse(data)
        if chunk is None:
            self.unreadable = True
            return True
        self.spoke |= chunk.is_odd
        if self.id is None:
            self.id, self.model = id_of(chunk.id), id_of(chunk.model)
            self.fingerprint = id_of(chunk.system_fingerprint)
        self._tier = chunk.service_tier or self._tier
        reported = chunk.reported
        if reported is not None:
            self.usage = usage_of(reported, self._tier) or self.usage
        if chunk.error:
            self.failed = self.told = True
        elif chunk.object == "error" or is_named_error(event):
            self.failed = True
        for choice in chunk.choices or ():
            self._follow(choice)
        if may_hold(data, IN_CHAT):
            for choice in chunk.choices or ():
                self.thoughts += tuple(message_marks(choice.delta or choice.message))
        return self._hide_usage and not (chunk.choices or self.failed) and chunk.usage is not None

    def _parse(self, data: bytes) -> AnswerPart | None:
        return parse_part(data)

    def _follow(self, part: ChoicePart) -> None:
        index = part.index if isinstance(part.index, int) else 0
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        said = part.delta or part.message  # some servers send a whole message in one event
        speaks = bool(part.text) or (said is not None and says_something(said))
        if speaks:
            self.spoke = True
            self.n_pieces += 1
            self.said_bytes += bytes_said(part.text or said)
        if has_failed(part):
            self.failed = True
        if speaks and choice.finished:
            choice.late = True
        elif speaks and not part.finish_reason:
            choice.spoke = True
        if part.finish_reason:
            choice.finished = self._has_end = True


def whole_as_stream(body: bytes) -> bytes:
    """Return a whole answer as a stream of one event, for a client whose stream has begun."""
    answer = read_leniently(body)
    for choice in answer["choices"]:
        choice["delta"] = choice.pop("message", {})
    answer["object"] = "chat.completion.chunk"
    return b"data: " + json.dumps(answer).encode() + b"\n\ndata: " + DONE + b"\n\n"
