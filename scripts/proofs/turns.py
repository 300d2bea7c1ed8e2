"""What a provider does with one attempt, and a script of it: values, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum

SCALE = 0.1
"""All waits are a tenth of what they stand for, here and in the SDK's pauses."""


class TurnKind(StrEnum):
    """What an attempt gets."""

    REFUSAL = "refusal"
    RESET = "reset before headers"
    CLOSE = "closed before headers"
    ANSWER = "answer"


class RetryAfter(StrEnum):
    """How a pause is announced."""

    SECONDS = "seconds"
    MS = "ms"
    DATE = "date"
    ZERO = "0"
    ODD = "odd"
    LONG = "600"


class AnswerCut(StrEnum):
    """Where an answer ends too early, and how."""

    IN_EVENT = "in an event, closed"
    IN_EVENT_ENDED = "in an event, ended properly"
    IN_EVENT_RESET = "in an event, reset"
    IN_FRAME = "in a chunk frame"
    BETWEEN = "between events, ended properly"
    BETWEEN_RESET = "between events, reset"


@dataclass(frozen=True, slots=True)
class CallShape:
    """What the caller asks for."""

    streamed: bool = True
    n: int = 1
    tools: bool = False
    asks_usage: bool = False


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How an answer is put on the wire; the defaults are the plain form."""

    words: int = 12
    line_end: str = "\n"  # or \r\n, \r, or `mixed`
    bom: bool = False
    comments: bool = False
    media_type: str = ""  # the usual one; `none` for no header
    coding: str = ""  # gzip, deflate or `raw deflate`, though identity may have been asked for
    status: int = 200
    framing: str = "chunked"  # or length, close
    sizes: str = "event"  # or odd, byte, one
    extensions: bool = False  # of chunk frames, and trailers
    early_hints: bool = False
    http_1_0: bool = False
    loud_headers: bool = False  # their names in capitals, and a long one
    slow_head: bool = False  # in two pieces
    no_done: bool = False
    done: str = "[DONE]"
    after_done: bool = False  # something more is said behind it
    held_s: float = 0.0  # open after the last byte, before the end
    finish_everywhere: bool = False
    usage: str = ""  # top-level cached, reasoning apart, on every chunk, null
    unknown: bool = False
    reasoning: str = ""  # the field that comes before the text: reasoning_content, audio, …
    lead: bool = False  # a first chunk without choices
    half_emoji: bool = False  # a character whose two halves are in two events
    infinity: bool = False  # -Infinity, as Python's JSON has it
    nested: bool = False  # a deep unknown field
    big: bool = False
    padded: bool = False  # white space before the JSON
    split_data: bool = False  # an event of several lines
    no_space: bool = False  # data:{…}
    named_events: bool = False  # with id and event fields
    first_pause_s: float = 0.0
    alive_s: float = 0.0  # comments before the first event
    pause_s: float = 0.0
    pause_at: float = 0.5
    inner_error: str = ""  # an error inside the 200: first, middle, choice, null
    garbled: bool = False  # one event is no JSON
    cut: AnswerCut | None = None
    cut_at: float = 0.5  # of all events
    cut_in: float = 0.5  # of that event
    connection_close: bool = False

    def oddities(self) -> list[str]:
        """Return what is not plain about it, by name."""
        said = []
        for each in fields(self):
            value = getattr(self, each.name)
            if value != each.default and not each.name.endswith(("_at", "_in")):
                shown = f"{value:g}" if isinstance(value, float) else ascii(str(value))
                said.append(each.name if value is True else f"{each.name} {shown}")
        return [name for name in said if not name.startswith("words") or not self.words]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one attempt gets."""

    kind: TurnKind
    status: int = 0
    code: str | None = None
    retry_after: RetryAfter | None = None
    should_retry: str = ""  # the hint that the SDK heeds
    goes_at_once: bool = False  # the idle connection is closed behind the reply
    form: AnswerForm = field(default_factory=AnswerForm)

    def told(self) -> str:
        """Return it in a few words."""
        if self.kind is TurnKind.ANSWER:
            return ", ".join(["answer", *self.form.oddities()])
        extra = [f"retry-after {self.retry_after}"] if self.retry_after else []
        extra += [f"x-should-retry {self.should_retry}"] if self.should_retry else []
        extra += [self.code] if self.code else []
        extra += ["goes at once"] if self.goes_at_once else []
        return " ".join([str(self.status or self.kind), *extra])


@dataclass(frozen=True, slots=True)
class FaultScript:
    """One script; `turns` by attempt."""

    seed: int
    number: int
    shape: CallShape
    turns: tuple[Turn, ...]
    strict: bool = False  # refuses `stream_options` that the caller never sent

    @property
    def name(self) -> str:
        """Its endpoint and model."""
        return f"script-{self.number}"

    def turn(self, nth: int) -> Turn:
        """Return what the nth attempt gets, from 0."""
        return self.turns[min(nth, len(self.turns) - 1)]

    def told(self) -> list[str]:
        """Return its steps in words."""
        shape = self.shape
        asks = ["streamed" if shape.streamed else "whole", *(["n 2"] if shape.n > 1 else [])]
        asks += ["tools"] if shape.tools else []
        asks += ["asks usage"] if shape.asks_usage else []
        asks += ["refuses stream_options"] if self.strict else []
        return [" ".join(asks), *(turn.told() for turn in self.turns)]
