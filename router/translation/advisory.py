"""The closed table of advisory fields: what a call means without them is the same.

They hint, label or count, for a provider that the call does not reach. A translation leaves them
out and names them; every other field is said again, or the call is not translated.
"""

from __future__ import annotations

from msgspec import Struct

from router.endpoints.entries import Dialect

ANYWHERE = "anywhere"
"""The place of a field that may stand in objects of every kind."""
THINKING = "thinking"
"""What earlier turns thought, under whatever name: no other provider takes it back."""
BLANK_TEXT = "blank_text"


class Advisory(Struct, frozen=True):
    """A field that may be left out.

    Attributes:
        place: the kind of object that it stands in.
        field: its key there; of what earlier turns thought, the type of a block or an item.
        why: what makes it advisory.
        named: how it is named where it is left out, unless by its key.
        default: a value that says nothing, so that leaving it out is not worth a word.
    """

    place: str
    field: str
    why: str
    named: str | None = None
    default: str | bool | None = None

    @property
    def name(self) -> str:
        """How it is named where it is left out."""
        return self.named or self.field


_LABEL = "labels the call for the provider's own records"
_USER = "tells users apart at the provider"
_CACHE = "hints what the provider may cache"
_TIER = "how the provider queues and prices the call"
_THOUGHT = "thinking of an earlier turn"
_ID = "names an item at the provider"
_DETAIL = "how finely a picture is looked at"
_CONTEXT = "what the provider may clear away"

_DEFERRED = Advisory(
    "tool",
    "defer_loading",
    "spares tokens: elsewhere a tool is shown from the start",
    default=False,
)

_OPENAI = (
    Advisory("request", "metadata", _LABEL),
    Advisory("request", "user", _USER),
    Advisory("request", "safety_identifier", _USER),
    Advisory("request", "prompt_cache_key", _CACHE),
    Advisory("request", "prompt_cache_retention", _CACHE),
    Advisory("request", "prompt_cache_options", _CACHE),
    Advisory("request", "service_tier", _TIER),
    Advisory(ANYWHERE, "prompt_cache_breakpoint", _CACHE),
    Advisory(ANYWHERE, "cache_control", _CACHE),
    Advisory(
        "stream options",
        "include_obfuscation",
        "pads the provider's own stream",
        named="stream_options.include_obfuscation",
    ),
)

ADVISORY: dict[Dialect, tuple[Advisory, ...]] = {
    Dialect.CHAT: (
        *_OPENAI,
        Advisory("request", "store", "keeps a copy at the provider that no call reads back"),
        Advisory("request", "prediction", "makes an answer faster, not another"),
        Advisory("image", "detail", _DETAIL, default="auto"),
        Advisory("message", "reasoning_content", _THOUGHT, named=THINKING),
        Advisory("message", "reasoning", _THOUGHT, named=THINKING),
        Advisory("message", "reasoning_details", _THOUGHT, named=THINKING),
    ),
    Dialect.MESSAGES: (
        Advisory("request", "metadata", _LABEL),
        Advisory("request", "service_tier", _TIER),
        Advisory("request", "context_management", _CONTEXT),
        Advisory(ANYWHERE, "cache_control", _CACHE),
        Advisory(
            "output config",
            "effort",
            "beside thinking that is off: how many words an answer takes",
            named="output_config.effort",
        ),
        _DEFERRED,
        Advisory("tool", "eager_input_streaming", "how its input is streamed"),
        Advisory("tool", "input_examples", "shows what its schema says"),
        Advisory("tool result", "is_error", "its content says what went wrong"),
        Advisory("block", "thinking", _THOUGHT, named=THINKING),
        Advisory("block", "redacted_thinking", _THOUGHT, named=THINKING),
    ),
    Dialect.RESPONSES: (
        *_OPENAI,
        _DEFERRED,
        Advisory("request", "include", "asks for more about the answer"),
        Advisory("request", "context_management", _CONTEXT),
        Advisory("request", "client_metadata", _LABEL),
        Advisory("reasoning", "summary", "how thinking is summed up", named="reasoning.summary"),
        Advisory(
            "reasoning",
            "generate_summary",
            "how thinking is summed up",
            named="reasoning.summary",
        ),
        Advisory("item", "id", _ID),
        Advisory("item", "status", "whether an item was finished"),
        Advisory("item", "phase", "sorts earlier words for the model that said them"),
        Advisory("item", "reasoning", _THOUGHT, named=THINKING),
        Advisory("image", "detail", _DETAIL, default="auto"),
        Advisory("file", "detail", _DETAIL, default="auto"),
    ),
}
"""What may be left out of a request, by the dialect that it came in."""

LOST_IN: dict[Dialect, dict[str, str]] = {
    Dialect.MESSAGES: {
        "schema.name": "a schema has no name there",
        "schema.description": "a schema has no description there",
        "schema.strict": "an answer always keeps to its schema there",
        BLANK_TEXT: "text of whitespace alone is refused there, also where an answer is no more",
    },
}
"""What is left out of a request that came in another dialect, by the dialect that it is said in."""


def advisory_of(dialect: Dialect, place: str) -> dict[str, Advisory]:
    """Return the advisory fields of one kind of object, by their keys."""
    return {row.field: row for row in ADVISORY[dialect] if row.place in (place, ANYWHERE)}
