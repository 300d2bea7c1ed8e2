"""Answers that pass as the bytes that come, since nothing may be said between them."""

from __future__ import annotations

from collections.abc import Callable

from router.dialects.stream import AnswerStream
from telemetry.wire.reading import LEADING_BYTES, leading_id
from telemetry.wire.told import read_told
from telemetry.wire.usage import WholeAnswer

MAX_KEPT_BYTES = 64 << 20
"""Of an answer that is translated once all of it is there."""
BLANK = b" "


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
        self.said_bytes += len(data)
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
        self.said_bytes += len(data)
        self._body += data
        if self.id is None and len(self._body) <= LEADING_BYTES:
            self.id = leading_id(bytes(self._body))
        return data

    def flush(self) -> bytes:
        """Read what has passed: it is whole."""
        answer = self._read_answer(bytes(self._body))
        if answer is None:
            self.failed = True
            told = read_told(bytes(self._body))
            self.usage, self.model = told.usage, told.model
        else:
            self.usage, self.id, self.model = answer.usage, answer.id, answer.model
            self.fingerprint = answer.fingerprint
            self.thoughts, self.item_ids = answer.thoughts, answer.item_ids
        return b""

    def is_whole(self, *, ended_well: bool) -> bool:
        """Return whether an answer has passed."""
        return ended_well and not self.failed


class LateTranslation(LateAnswer):
    """The same in another dialect: white space, which JSON begins with as well, until it is there.

    What turns out to be no answer has no words left: it breaks off.
    """

    def __init__(
        self,
        read_answer: Callable[[bytes], WholeAnswer | None],
        as_callers: Callable[[bytes], bytes | None],
    ) -> None:
        """Begin.

        Args:
            as_callers: says a whole answer in the caller's dialect; None where that cannot be.
        """
        super().__init__(read_answer)
        self._as_callers = as_callers

    def feed(self, data: bytes) -> bytes:
        """Return a sign of life; what came is kept."""
        super().feed(data)
        self.unreadable = len(self._body) > MAX_KEPT_BYTES
        return BLANK

    def flush(self) -> bytes:
        """Return all of the answer as its caller reads it."""
        super().flush()
        said = None if self.failed else self._as_callers(bytes(self._body))
        self.failed = self.unreadable = said is None
        return said or b""
