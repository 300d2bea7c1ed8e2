"""What a request says, whatever dialect it came in: the middle of every translation.

A reader of a dialect makes it, a writer of another says it again. Both are strict: what they have
no word for is `Untranslatable`, and names the field.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from router.endpoints.capabilities import Reasoning


class Untranslatable(Exception):
    """Something of a request has no counterpart in the other dialect.

    Attributes:
        field: where it stands in the request, as a path: `messages[3].content[0].type`.
        why: what of it cannot be said, in the caller's words.
    """

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field
        self.why = why


class Text(Struct, frozen=True):
    """Words."""

    text: str


class Image(Struct, frozen=True):
    """A picture: an https URL, or a `data:` URL that holds it."""

    url: str


class Document(Struct, frozen=True):
    """A document: an https URL, or a `data:` URL that holds it."""

    url: str
    name: str | None = None


class Sound(Struct, frozen=True):
    """A recording."""

    base64: str
    format: str  # wav, mp3


class Thought(Struct, frozen=True):
    """What an assistant thought before it spoke, as far as it may be read; never sent on."""

    text: str


class ToolUse(Struct, frozen=True):
    """An assistant calls a tool of the caller's."""

    id: str
    name: str
    arguments: str  # JSON text; of a custom tool, whatever it takes
    is_custom: bool = False


class ToolResult(Struct, frozen=True):
    """What a tool of the caller's gave back."""

    call_id: str
    content: tuple[Text | Image | Document, ...]
    is_custom: bool = False


Part = Text | Image | Document | Sound | Thought | ToolUse | ToolResult


class TurnRole(StrEnum):
    """Who says it."""

    SYSTEM = "system"  # in the middle of a conversation; what stands first is `system` of it
    USER = "user"  # results of tools, too
    ASSISTANT = "assistant"


class Talk(Struct, frozen=True):
    """What one side says; turns of one role in a row are one."""

    role: TurnRole
    parts: tuple[Part, ...]


class Tool(Struct, frozen=True):
    """A tool of the caller's that takes JSON."""

    name: str
    description: str | None
    schema: dict[str, Any]
    strict: bool = False


class CustomTool(Struct, frozen=True):
    """A tool of the caller's that takes text, maybe of a grammar."""

    name: str
    description: str | None
    format: dict[str, Any] | None


class ProviderTool(Struct, frozen=True):
    """A tool that the provider runs; it has no counterpart."""

    type: str  # `web_search`, without the date that some carry


class Choosing(StrEnum):
    """How far the model may choose among tools."""

    AUTO = "auto"
    NONE = "none"
    ANY = "any"  # some tool
    ONE = "one"  # the named tool


class ToolChoice(Struct, frozen=True):
    """Whether a tool must be called."""

    choosing: Choosing
    name: str | None = None


class Schema(Struct, frozen=True):
    """The shape that an answer must have."""

    schema: dict[str, Any]
    name: str | None = None
    strict: bool | None = None
    description: str | None = None


class Effort(StrEnum):
    """How much an answer may be thought about."""

    NONE = "none"
    MINIMAL = "minimal"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


class Prompt(Struct, frozen=True, kw_only=True):
    """All that a request says, but for its model."""

    system: tuple[str, ...] = ()
    turns: tuple[Talk, ...] = ()
    tools: tuple[Tool | CustomTool, ...] = ()
    provider_tools: tuple[ProviderTool, ...] = ()
    choice: ToolChoice | None = None
    parallel: bool | None = None  # several tools at once
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    schema: Schema | None = None
    is_json: bool = False  # some JSON object, of whatever shape
    effort: Effort | None = None
    thinking_tokens: int | None = None  # a budget, where that is how it was asked for
    shows_thinking: bool = False  # the caller reads what was thought
    verbosity: str | None = None
    streamed: bool = False
    is_kept: bool = False  # the answer is to lie at the provider under its id
    left_out: frozenset[str] = frozenset()
    """Advisory fields, by name, that no translation carries."""


class Manner(Struct, frozen=True):
    """How an endpoint is spoken to, as far as its dialect leaves that open."""

    output_tokens: int | None = None  # the most that it writes: some dialects must name a limit
    reasoning: Reasoning | None = None  # None: not known
    drop: frozenset[str] = frozenset()
    """What may be left out: types of provider-run tools, `store`, `reasoning`."""


class Written(Struct, frozen=True):
    """A request in another dialect."""

    body: dict[str, Any]  # without its model
    left_out: frozenset[str]  # fields that it does not carry, by name
