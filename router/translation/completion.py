"""What an answer says, whatever dialect it came in: whole, and piece by piece."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from router.translation.prompt import Text, Thought, ToolUse


class Stop(StrEnum):
    """Why an answer ends."""

    END = "end"  # it is complete; what no dialect has a word for, too
    SEQUENCE = "sequence"  # a stop sequence came
    LENGTH = "length"
    TOOLS = "tools"  # tools are to be called
    REFUSAL = "refusal"  # the model refused, or a filter did


class Count(Struct, frozen=True):
    """Tokens of an answer."""

    input: int  # all of them: also what was read from a cache, or written to it
    output: int  # all of them: also what was thought
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0


class Declined(Struct, frozen=True):
    """The model's own words of refusal."""

    text: str


class Completion(Struct, frozen=True):
    """A whole answer."""

    id: str | None
    model: str | None
    parts: tuple[Thought | Text | Declined | ToolUse, ...]
    stop: Stop
    stop_sequence: str | None = None
    count: Count | None = None


class Begun(Struct, frozen=True):
    """A streamed answer begins."""

    id: str | None
    model: str | None
    count: Count | None = None


class Piece(Struct, frozen=True):
    """More of a thought, of words, or of a refusal."""

    of: type[Thought] | type[Text] | type[Declined]
    text: str


class CallBegun(Struct, frozen=True):
    """A tool call begins; `index` tells calls apart that come at once."""

    index: int
    id: str  # empty where it has none
    name: str
    is_custom: bool = False


class Arguments(Struct, frozen=True):
    """More of what a tool is called with."""

    index: int
    text: str


class CallEnded(Struct, frozen=True):
    """A tool call is all there; not every dialect says so."""

    index: int


class Stopped(Struct, frozen=True):
    """An answer says why it ends."""

    stop: Stop
    sequence: str | None = None  # that came, as far as its server says


class Counted(Struct, frozen=True):
    """An answer says what it took; what is said last holds."""

    count: Count


Event = Begun | Piece | CallBegun | Arguments | CallEnded | Stopped | Counted
