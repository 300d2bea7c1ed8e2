"""What an answer shows by itself, against what its own request asked for. Pure.

Bad is what no client can use; good is only what was checked: a schema that is met, tool calls that
are valid. A plain text that ended by itself is neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from telemetry.events import Source
from workers.observer.answers import Choice, ReadAnswer
from workers.observer.conversation import Conversation, ReadRequest, ToolCall
from workers.observer.schemas import fits, read_json

TINY_OUTPUT_TOKENS = 16
"""A limit up to this is meant to cut: a yes or no, a class, a probe of probabilities."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A value in {0, 1}, and what it was read off."""

    source: Source
    value: float


_Offered = dict[str, bytes | None]
"""Parameters schema by tool name, empty where any object will do; None for a custom tool."""


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
    if choice.refusal.strip():
        return Judgement(Source.REFUSED, 0.0)
    if choice.finish == "length":
        return _cut(request, conversation, choice, reasoning_tokens)
    if choice.calls:
        return _calls(request, conversation, choice.calls)
    if not choice.text.strip():
        # Code completion hits its stop sequence at once where there is nothing to suggest.
        usable = choice.has_media or request.stop
        return None if usable else Judgement(Source.EMPTY, 0.0)
    if _demanded(request) is not None:
        return Judgement(Source.TOOL_CALL, 0.0)
    return _text(request, choice.text)


def _cut(
    request: ReadRequest, conversation: Conversation, choice: Choice, reasoning_tokens: int
) -> Judgement | None:
    """Judge an answer that hit the output limit, unless the caller meant it to."""
    limit = request.max_completion_tokens or request.max_tokens
    tiny = isinstance(limit, int) and 0 < limit <= TINY_OUTPUT_TOKENS
    if tiny or request.stop or conversation.is_prefilled or choice.has_media:
        return None
    if choice.text.strip() or choice.calls:
        return Judgement(Source.TRUNCATED, 0.0)
    reasoned = choice.reasoned or reasoning_tokens > 0
    return Judgement(Source.REASONING_LIMIT if reasoned else Source.EMPTY, 0.0)


def _text(request: ReadRequest, text: str) -> Judgement | None:
    form = request.response_format
    if form is None or form.type not in ("json_schema", "json_object"):
        return None
    schema = bytes(form.json_schema.schema) if form.json_schema else b""
    if form.type == "json_object":
        is_json, value = read_json(text)
        valid = is_json and isinstance(value, dict) if is_json is not None else None
    elif schema:
        valid = fits(schema, text)
    else:
        valid = False if read_json(text)[0] is False else None
    return None if valid is None else Judgement(Source.SCHEMA, float(valid))


def _calls(
    request: ReadRequest, conversation: Conversation, calls: tuple[ToolCall, ...]
) -> Judgement | None:
    offered = dict(_offered(request))
    # What a provider's own tools are called is its own affair.
    own = any(t.function is None and t.custom is None for t in request.tools or ())
    valid = [_valid(call, offered, own=own) for call in calls]
    demanded = _demanded(request)
    disobeyed = demanded is not None and demanded and any(c.name not in demanded for c in calls)
    if False in valid or disobeyed or request.tool_choice == "none":
        return Judgement(Source.TOOL_CALL, 0.0)
    if conversation.repeated == tuple(sorted(call.canonical() for call in calls)):
        return Judgement(Source.LOOP, 0.0)
    return None if None in valid else Judgement(Source.TOOL_CALL, 1.0)


def _offered(request: ReadRequest) -> Iterator[tuple[str, bytes | None]]:
    for tool in request.tools or ():
        if tool.custom is not None:
            yield tool.custom.name, None
        elif tool.function is not None:
            yield tool.function.name, bytes(tool.function.parameters)
    for function in request.functions or ():
        yield function.name, bytes(function.parameters)


def _valid(call: ToolCall, offered: _Offered, *, own: bool) -> bool | None:
    if call.name not in offered:
        return None if own else False
    schema = offered[call.name]
    if schema is None or call.is_custom:
        return None
    text = call.arguments.strip() or "{}"  # a call without arguments is written either way
    is_json, value = read_json(text)
    if not is_json:
        return is_json
    if not isinstance(value, dict):
        return False
    return True if schema in (b"", b"null", b"{}") else fits(schema, text)


def _demanded(request: ReadRequest) -> set[str] | None:
    """Return which tools the answer had to call; empty if any would do, None if it need not."""
    choice: Any = request.tool_choice
    if choice in ("required", "any"):
        return set()
    if isinstance(request.function_call, dict) and choice is None:
        choice = {"function": request.function_call}
    if not isinstance(choice, dict):
        return None
    allowed = choice.get("allowed_tools")
    if isinstance(allowed, dict):
        tools = allowed.get("tools")
        named = tools if isinstance(tools, list) and allowed.get("mode") == "required" else None
    else:
        named = [choice]
    if named is None:
        return None
    names = {name for tool in named for name in _names(tool)}
    return names or None


def _names(tool: Any) -> Iterator[str]:
    for kind in ("function", "custom"):
        inner = tool.get(kind) if isinstance(tool, dict) else None
        name = inner.get("name") if isinstance(inner, dict) else None
        if isinstance(name, str) and name:
            yield name
