"""Answers that pass as the bytes that come, since nothing may be said between them."""

from __future__ import annotations

from collections.abc import Callable

from router.dialects.stream import AnswerStream
from telemetry.wire.reading import LEADING_BYTES, leading_id
from telemetry.wire.usage import WholeAnswer


class UnreadStream(AnswerStream):
    """A stream in a coding that nobody here can undo: only its connection tells of its end."""

    is_read = False

    def __init__(self) -> None:
        super().__init__()
        self.spoke = True

    @property
    def finished(self) -> bool:
        """False: nobody here can tell."""
        return False

    def feed(self, data: bytes) -> bytes:
        """Return what came."""
        return data

    def flush(self) -> bytes:
        """Nothing is ever held back."""
        return b""

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether the connection came to its proper end."""
        return ended_well


class LateAnswer(UnreadStream):
    """An unstreamed answer that takes its time, and whose provider shows signs of life meanwhile.

    It is read once all of it has passed.
    """

    is_read = True

    def __init__(self, read_answer: Callable[[bytes], WholeAnswer | None]) -> None:
        super().__init__()
        self._read_answer = read_answer
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Return what came."""
        self._body += data
        if self.id is None and len(self._body) <= LEADING_BYTES:
            self.id = leading_id(bytes(self._body))
        return data

    def flush(self) -> bytes:
        """Read what has passed: it is whole."""
        answer = self._read_answer(bytes(self._body))
        if answer is None:
            self.failed = True
        else:
            self.usage, self.id, self.model = answer.usage, answer.id, answer.model
            self.fingerprint = answer.fingerprint
            self.thoughts, self.item_ids = answer.thoughts, answer.item_ids
        return b""

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether an answer has passed."""
        return ended_well and not self.failed
