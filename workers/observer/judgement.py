"""What an answer shows by itself, against what its own request asked for. Pure.

Bad is what no client can use; good is only what was checked: a schema that is met, tool calls that
are valid. A plain text that ended by itself is neither.
"""

from __future__ import annotations

from msgspec import Struct

from telemetry.events import Source
from workers.observer.conversation import Conversation
from workers.observer.schemas import fits, read_json
from workers.observer.shapes import Choice, ReadAnswer, ReadRequest, ToolCall

TINY_OUTPUT_TOKENS = 16
"""A limit up to this is meant to cut: a yes or no, a class, a probe of probabilities."""


class Judgement(Struct, frozen=True, gc=False):
    """A value in {0, 1}, and what it was read off."""

    source: Source
    value: float


def judge(request: ReadRequest, conversation: Conversation, answer: ReadAnswer) -> Judgement | None:
    """Return what the answer shows; None where it shows nothing.

    Of several choices the caller takes the best: bad are all or none, good are all that say
    anything.
    """
    judged = [
        _choice(request, conversation, choice, answer.reasoning_tokens) for choice in answer.choices
    ]
    found = [j for j in judged if j is not None]
    if not found:
        return None
    if all(j.value == 1.0 for j in found) or (
        len(found) == len(judged) and not any(j.value for j in found)
    ):
        return found[0]
    return None


def _choice(
    request: ReadRequest, conversation: Conversation, choice: Choice, reasoning_tokens: int
) -> Judgement | None:
    if choice.finish == "content_filter":
        return Judgement(Source.FILTERED, 0.0)
    if choice.finish == "error":
        return None  # the provider broke off; that is reliability's matter
    if choice.finish == "refusal" or choice.refusal.strip():
        return Judgement(Source.REFUSED, 0.0)
    if choice.finish == "length":
        return _cut(request, conversation, choice, reasoning_tokens)
    if choice.calls:
        return _calls(request, conversation, choice.calls)
    if not choice.text.strip():
        # Code completion hits its stop sequence at once where there is nothing to suggest.
        usable = choice.has_media or request.has_stops
        return None if usable else Judgement(Source.EMPTY, 0.0)
    if request.demanded is not None:
        own = choice.has_media and request.has_own_tools  # a provider's tool may have been called
        return None if own else Judgement(Source.TOOL_CALL, 0.0)
    return _text(request, choice.text)


def _cut(
    request: ReadRequest, conversation: Conversation, choice: Choice, reasoning_tokens: int
) -> Judgement | None:
    """Judge an answer that hit the output limit, unless the caller meant it to."""
    limit = request.limit
    tiny = isinstance(limit, int) and 0 < limit <= TINY_OUTPUT_TOKENS
    if tiny or request.has_stops or conversation.is_prefilled or choice.has_media:
        return None
    if choice.text.strip() or choice.calls:
        return Judgement(Source.TRUNCATED, 0.0)
    reasoned = choice.reasoned or reasoning_tokens > 0
    return Judgement(Source.REASONING_LIMIT if reasoned else Source.EMPTY, 0.0)


def _text(request: ReadRequest, text: str) -> Judgement | None:
    if request.form not in ("json_schema", "json_object"):
        return None
    if request.form == "json_object":
        is_json, value = read_json(text)
        valid = is_json and isinstance(value, dict) if is_json is not None else None
    elif request.schema:
        valid = fits(request.schema, text)
    else:
        valid = False if read_json(text)[0] is False else None
    return None if valid is None else Judgement(Source.SCHEMA, float(valid))


def _calls(
    request: ReadRequest, conversation: Conversation, calls: tuple[ToolCall, ...]
) -> Judgement | None:
    valid = [_valid(call, request) for call in calls]
    demanded = request.demanded
    disobeyed = demanded and any(call.name not in demanded for call in calls)
    if False in valid or disobeyed or request.forbids_tools:
        return Judgement(Source.TOOL_CALL, 0.0)
    if conversation.repeated == tuple(sorted(call.canonical() for call in calls)):
        return Judgement(Source.LOOP, 0.0)
    return None if None in valid else Judgement(Source.TOOL_CALL, 1.0)


def _valid(call: ToolCall, request: ReadRequest) -> bool | None:
    if call.name not in request.tools:
        return None if request.has_own_tools else False
    schema = request.tools[call.name]
    if schema is None or call.is_custom:
        return None
    text = call.arguments.strip() or "{}"  # a call without arguments is written either way
    is_json, value = read_json(text)
    if not is_json:
        return is_json
    if not isinstance(value, dict):
        return False
    return True if schema in (b"", b"null", b"{}") else fits(schema, text)
