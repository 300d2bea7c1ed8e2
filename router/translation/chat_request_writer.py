"""Chat Completions: a request of another dialect, said in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.endpoints.capabilities import Reasoning
from router.translation.efforts import is_thinking_wanted, told_effort
from router.translation.media import PDF, held
from router.translation.prompt import (
    Choosing,
    CustomTool,
    Document,
    Image,
    Manner,
    Part,
    Prompt,
    Schema,
    Sound,
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
from router.translation.tools import choice_of, let_go, require_names

LONGEST_NAME = 64
MOST_STOPS = 4
UNNAMED = "answer"
"""A schema must have a name."""
UNNAMED_PDF = "document.pdf"
"""A document must have a name."""
CHOICES = {Choosing.AUTO: "auto", Choosing.NONE: "none", Choosing.ANY: "required"}


def write(prompt: Prompt, manner: Manner) -> Written:
    """Return a request as Chat Completions says it, without its model.

    Raises:
        Untranslatable: something of it cannot be said so.
    """
    left_out = prompt.left_out | let_go(prompt, manner)
    require_names(prompt, LONGEST_NAME)
    body: dict[str, Any] = {"messages": _messages(prompt)}
    body |= _tools(prompt) | _sampling(prompt, manner) | _shape(prompt)
    effort = told_effort(prompt, manner, (Reasoning.EFFORT,))
    if effort is not None:
        body["reasoning_effort"] = effort
    elif is_thinking_wanted(prompt):
        left_out |= {"reasoning"}
    if prompt.streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return Written(body, left_out)


# -- messages -------------------------------------------------------------------------------------


def _messages(prompt: Prompt) -> list[dict[str, Any]]:
    if prompt.turns and prompt.turns[-1].role is TurnRole.ASSISTANT:
        why = "the conversation ends in the assistant's words, and none goes on from them there"
        raise Untranslatable("messages", why)
    messages: list[dict[str, Any]] = []
    if prompt.system:
        texts = [Text(text) for text in prompt.system]
        messages.append({"role": "system", "content": _content(texts)})
    for turn in prompt.turns:
        if turn.role is TurnRole.ASSISTANT:
            messages.append(_assistant(turn))
        else:
            messages += _other(turn)
    if not messages:
        raise Untranslatable("messages", "says nothing")
    return messages


def _other(turn: Talk) -> list[dict[str, Any]]:
    """Return a turn of the user's or the system's: results of tools are messages of their own."""
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    rest = turn.parts[len(results) :]
    messages = [_result(result) for result in results]
    return messages + ([{"role": turn.role, "content": _content(rest)}] if rest else [])


def _result(result: ToolResult) -> dict[str, Any]:
    if not all(isinstance(part, Text) for part in result.content):
        why = "a tool's result holds a picture or a document; there it is text alone"
        raise Untranslatable("messages", why)
    content = _content(result.content) if result.content else ""
    return {"role": "tool", "tool_call_id": result.call_id, "content": content}


def _assistant(turn: Talk) -> dict[str, Any]:
    """Return a turn of the assistant's: there its words stand before its calls."""
    calls = [part for part in turn.parts if isinstance(part, ToolUse)]
    said = [part for part in turn.parts if not isinstance(part, ToolUse)]
    message: dict[str, Any] = {"role": "assistant", "content": _content(said) if said else None}
    return message | ({"tool_calls": [_call(call) for call in calls]} if calls else {})


def _call(call: ToolUse) -> dict[str, Any]:
    if call.is_custom:
        custom = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": custom}
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _content(parts: Sequence[Part]) -> str | list[dict[str, Any]]:
    """Return content: text alone as text, which more servers take than parts."""
    if len(parts) == 1 and isinstance(parts[0], Text):
        return parts[0].text
    return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, Any]:
    match part:
        case Text(text=text):
            return {"type": "text", "text": text}
        case Image(url=url):
            holds = held(url)
            return {"type": "image_url", "image_url": {"url": holds.url if holds else url}}
        case Sound(base64=base64, format=kind):
            return {"type": "input_audio", "input_audio": {"data": base64, "format": kind}}
        case Document():
            return {"type": "file", "file": _file(part)}
    raise Untranslatable("messages", f"{type(part).__name__} stands where it cannot be said")


def _file(document: Document) -> dict[str, str]:
    holds = held(document.url)
    if holds is None:
        raise Untranslatable("messages", "a document is named by its URL; there it must be held")
    name = document.name or (UNNAMED_PDF if holds.media_type == PDF else None)
    return ({"filename": name} if name else {}) | {"file_data": holds.url}


# -- settings -------------------------------------------------------------------------------------


def _tools(prompt: Prompt) -> dict[str, Any]:
    found: dict[str, Any] = {}
    choice = choice_of(prompt)
    if prompt.tools:
        found["tools"] = [_tool(tool) for tool in prompt.tools]
    if choice is not None:
        found["tool_choice"] = _choice(choice, prompt)
    if prompt.tools and prompt.parallel is not None:
        found["parallel_tool_calls"] = prompt.parallel
    return found


def _tool(tool: Tool | CustomTool) -> dict[str, Any]:
    said: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        said["description"] = tool.description
    if isinstance(tool, Tool):
        said["parameters"] = tool.schema
        return {"type": "function", "function": said | ({"strict": True} if tool.strict else {})}
    if tool.format is not None:
        grammar = {key: value for key, value in tool.format.items() if key != "type"}
        said["format"] = {"type": "grammar", "grammar": grammar}
    return {"type": "custom", "custom": said}


def _choice(choice: ToolChoice, prompt: Prompt) -> str | dict[str, Any]:
    if choice.choosing is not Choosing.ONE:
        return CHOICES[choice.choosing]
    tool = next(tool for tool in prompt.tools if tool.name == choice.name)
    kind = "function" if isinstance(tool, Tool) else "custom"
    return {"type": kind, kind: {"name": choice.name}}


def _sampling(prompt: Prompt, manner: Manner) -> dict[str, Any]:
    if prompt.top_k is not None:
        raise Untranslatable("top_k", "has no counterpart in Chat Completions")
    if len(prompt.stop) > MOST_STOPS:
        raise Untranslatable("stop_sequences", f"are more than {MOST_STOPS}")
    limit = "max_completion_tokens" if manner.reasoning is Reasoning.EFFORT else "max_tokens"
    said = {
        limit: prompt.max_tokens,
        "temperature": prompt.temperature,
        "top_p": prompt.top_p,
        "stop": list(prompt.stop) or None,
        "verbosity": prompt.verbosity,
    }
    return {name: value for name, value in said.items() if value is not None}


def _shape(prompt: Prompt) -> dict[str, Any]:
    if prompt.schema is not None:
        schema = {"type": "json_schema", "json_schema": _schema(prompt.schema)}
        return {"response_format": schema}
    return {"response_format": {"type": "json_object"}} if prompt.is_json else {}


def _schema(schema: Schema) -> dict[str, Any]:
    said = {
        "name": schema.name or UNNAMED,
        "description": schema.description,
        "schema": schema.schema,
        "strict": schema.strict,
    }
    return {name: value for name, value in said.items() if value is not None}
