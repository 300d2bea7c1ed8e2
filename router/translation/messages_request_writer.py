"""Messages: a request of another dialect, said in it."""

from __future__ import annotations

from typing import Any

from router.translation.advisory import BLANK_TEXT
from router.translation.exact import decoded
from router.translation.fields import SHOWN
from router.translation.media import PDF, held
from router.translation.messages_thinking import is_thinking_lost, thinking_said
from router.translation.prompt import (
    Choosing,
    CustomTool,
    Document,
    Image,
    Manner,
    Part,
    Prompt,
    Schema,
    Talk,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    TurnRole,
    Untranslatable,
    Written,
)
from router.translation.tools import INVALID, NAME, choice_of, let_go, require_names

LONGEST_NAME = 128
PICTURES = ("image/jpeg", "image/png", "image/gif", "image/webp")
NOT_AT_TOP = frozenset({"oneOf", "anyOf", "allOf"})
"""What the schema of a tool's input may not begin with."""
CHOICES = {
    Choosing.AUTO: "auto",
    Choosing.NONE: "none",
    Choosing.ANY: "any",
    Choosing.ONE: "tool",
}


def write(prompt: Prompt, manner: Manner) -> Written:
    """Return a request as Messages says it, without its model.

    Raises:
        Untranslatable: something of it cannot be said so.
    """
    left_out = prompt.left_out | let_go(prompt, manner)
    require_names(prompt, LONGEST_NAME)
    max_tokens = _max_tokens(prompt, manner)
    said = thinking_said(prompt, manner, max_tokens)
    if is_thinking_lost(prompt, said):
        left_out |= {"reasoning"}
    body: dict[str, Any] = {"max_tokens": max_tokens}
    if texts := [_block(Text(text)) for text in prompt.system if text.strip()]:
        body["system"] = texts[0]["text"] if len(texts) == 1 else texts
    body["messages"] = _messages(prompt.turns)
    body |= _tools(prompt) | _sampling(prompt)
    if "thinking" in said:
        body["thinking"] = said["thinking"]
    config = _shape(prompt) | ({"effort": said["effort"]} if "effort" in said else {})
    if config:
        body["output_config"] = config
    if prompt.streamed:
        body["stream"] = True
    return Written(body, left_out | _lost(prompt))


def _lost(prompt: Prompt) -> set[str]:
    """Return by name what this dialect has no place for; see `advisory.LOST_IN`."""
    shape, lost = prompt.schema, set()
    if shape is not None:
        lost |= {"schema.name"} if shape.name else set()
        lost |= {"schema.description"} if shape.description else set()
        lost |= {"schema.strict"} if shape.strict is False else set()
    if any(_is_silent(turn) or _drops_blank(turn.parts) for turn in prompt.turns) or any(
        not text.strip() for text in prompt.system
    ):
        lost |= {BLANK_TEXT}
    return lost


# -- messages -------------------------------------------------------------------------------------


def _messages(turns: tuple[Talk, ...]) -> list[dict[str, Any]]:
    if not turns:
        raise Untranslatable("messages", "holds no turn of the user's")
    if turns[0].role is not TurnRole.USER:
        raise Untranslatable("messages", "the conversation does not begin with the user")
    if turns[-1].role is TurnRole.ASSISTANT:
        why = "the conversation ends in the assistant's words; an answer there goes on from them"
        raise Untranslatable("messages", why)
    _require_ids(turns)
    return [_message(turn) for turn in _without_silent(turns)]


def _without_silent(turns: tuple[Talk, ...]) -> list[Talk]:
    """Return turns without answers that said nothing, which are refused there."""
    kept: list[Talk] = []
    for turn in turns:
        if kept and kept[-1].role is turn.role:
            kept[-1] = Talk(turn.role, kept[-1].parts + turn.parts)
        elif not _is_silent(turn):
            kept.append(turn)
    return kept


def _is_silent(turn: Talk) -> bool:
    return turn.role is TurnRole.ASSISTANT and all(_is_blank(part) for part in turn.parts)


def _require_ids(turns: tuple[Talk, ...]) -> None:
    ids = [part.id for turn in turns for part in turn.parts if isinstance(part, ToolUse)]
    if len(set(ids)) < len(ids):
        raise Untranslatable("messages", "two tool calls have the same id")
    for one in ids:
        if not NAME.fullmatch(one):
            why = f"the tool call {one[:SHOWN]!r} has an id of other than letters, digits, _ and -"
            raise Untranslatable("messages", why)


def _message(turn: Talk) -> dict[str, Any]:
    if turn.role is TurnRole.SYSTEM:
        raise Untranslatable("messages", "the system speaks in the middle of the conversation")
    said = _without_blank(turn.parts)
    if len(said) == 1 and isinstance(said[0], Text):
        if not said[0].text.strip():
            raise Untranslatable("messages", "a turn holds nothing but whitespace")
        return {"role": turn.role, "content": said[0].text}
    return {"role": turn.role, "content": [_block(part) for part in said]}


def _is_blank(part: Part) -> bool:
    return isinstance(part, Text) and not part.text.strip()


def _without_blank(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return parts without text of whitespace alone, which is refused; one stays in any case."""
    return tuple(part for part in parts if not _is_blank(part)) or parts[:1]


def _drops_blank(parts: tuple[Part, ...]) -> bool:
    inner = [part.content for part in parts if isinstance(part, ToolResult)]
    return any(each != _without_blank(each) for each in (parts, *inner))


def _block(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image(url=url):
            return {"type": "image", "source": _source(url, PICTURES)}
        case Document(url=url, name=name):
            title = {"title": name} if name else {}
            return {"type": "document", "source": _source(url, (PDF,))} | title
        case ToolUse():
            return _call(part)
        case ToolResult():
            return _result(part)
    raise Untranslatable("messages", f"{type(part).__name__.lower()} has no counterpart there")


def _source(url: str, media_types: tuple[str, ...]) -> dict[str, str]:
    holds = held(url)
    if holds is None:
        if not url.startswith("https://"):
            raise Untranslatable("messages", "a URL is neither https: nor data: in base64")
        return {"type": "url", "url": url}
    if holds.media_type not in media_types:
        why = f"{holds.media_type[:SHOWN]} is none of {', '.join(media_types)}"
        raise Untranslatable("messages", why)
    return {"type": "base64", "media_type": holds.media_type, "data": holds.base64}


def _call(call: ToolUse) -> dict[str, Any]:
    if call.is_custom:
        raise Untranslatable("messages", f"{call.name!r} was called with text; there it is JSON")
    try:
        takes = decoded(call.arguments) if call.arguments.strip() else {}
    except ValueError:
        takes = None
    if not isinstance(takes, dict):
        takes = {INVALID: call.arguments}
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": takes}


def _result(result: ToolResult) -> dict[str, Any]:
    said = {"type": "tool_result", "tool_use_id": result.call_id}
    match _without_blank(result.content):
        case ():
            return said
        case (Text(text=text),):
            return said | {"content": text}
        case content:
            return said | {"content": [_block(part) for part in content]}


# -- settings -------------------------------------------------------------------------------------


def _max_tokens(prompt: Prompt, manner: Manner) -> int:
    limit = prompt.max_tokens or manner.output_tokens
    if limit is None:
        why = "must be named there: send max_tokens, or set the output limit of the model"
        raise Untranslatable("max_tokens", why)
    return limit


def _tools(prompt: Prompt) -> dict[str, Any]:
    choice = choice_of(prompt)
    if not prompt.tools:
        return {}
    found: dict[str, Any] = {"tools": [_tool(tool) for tool in prompt.tools]}
    if choice is not None or prompt.parallel is not None:
        found["tool_choice"] = _choice(choice or ToolChoice(Choosing.AUTO), prompt.parallel)
    return found


def _tool(tool: Tool | CustomTool) -> dict[str, Any]:
    if isinstance(tool, CustomTool):
        raise Untranslatable("tools", f"{tool.name!r} takes text; there tools take JSON")
    if tool.schema.get("type") != "object" or not NOT_AT_TOP.isdisjoint(tool.schema):
        why = "takes something else than one object, described without oneOf, anyOf or allOf"
        raise Untranslatable("tools", f"{tool.name!r} {why}")
    said: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        said["description"] = tool.description
    return said | {"input_schema": tool.schema} | ({"strict": True} if tool.strict else {})


def _choice(choice: ToolChoice, parallel: bool | None) -> dict[str, Any]:
    said: dict[str, Any] = {"type": CHOICES[choice.choosing]}
    if choice.choosing is Choosing.ONE:
        said["name"] = choice.name
    if parallel is not None and choice.choosing is not Choosing.NONE:
        said["disable_parallel_tool_use"] = not parallel
    return said


def _sampling(prompt: Prompt) -> dict[str, Any]:
    if prompt.temperature is not None and not 0 <= prompt.temperature <= 1:
        raise Untranslatable("temperature", "is not from 0 to 1")
    if any(not text.strip() for text in prompt.stop):
        raise Untranslatable("stop", "holds a sequence of whitespace alone")
    if prompt.verbosity not in (None, "medium"):
        raise Untranslatable("verbosity", "has no counterpart in Messages")
    said = {
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "top_k": prompt.top_k,
        "stop_sequences": list(prompt.stop) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _shape(prompt: Prompt) -> dict[str, Any]:
    if prompt.is_json:
        raise Untranslatable("response_format", "JSON of any shape has no counterpart in Messages")
    schema: Schema | None = prompt.schema
    if schema is None:
        return {}
    return {"format": {"type": "json_schema", "schema": schema.schema}}
