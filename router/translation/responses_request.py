"""Responses: what a request says. Nothing is translated to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from router.endpoints.entries import Dialect
from router.translation.advisory import THINKING
from router.translation.fields import Nothing, StrictFields, opened
from router.translation.media import is_url
from router.translation.openai_shapes import (
    FORMATS,
    ROLES,
    grammar_of,
    schema_said,
    sound_said,
    word_chosen,
)
from router.translation.prompt import (
    Choosing,
    CustomTool,
    Document,
    Effort,
    Image,
    Part,
    Prompt,
    ProviderTool,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    TurnRole,
)
from router.translation.tools import CALLER, PLAIN, provider_tool, schema_of
from router.translation.turns import Utterance, conversation

NOTHING: Nothing = {
    "background": (False,),
    "background_options": (),
    "conversation": (),
    "previous_response_id": (),
    "prompt": (),
    "max_tool_calls": (),
    "top_logprobs": (0,),
    "truncation": ("disabled",),
    "moderation": (),
    "access_programs": (),
    "image": (),
}
"""What no other dialect has, and what it may hold without saying anything."""
IN_ITEM: Nothing = {**CALLER, "name": ()}
IN_PART: Nothing = {"file_id": (), "annotations": ([],), "logprobs": ([],)}
IN_TOOL: Nothing = {**PLAIN, "output_schema": (), "async": (False,)}
IN_REASONING: Nothing = {"context": ("auto",), "mode": ("standard",)}
SPOKEN = ("input_text", "output_text", "text")
CALLS = {"function_call": "arguments", "custom_tool_call": "input"}
RESULTS = ("function_call_output", "custom_tool_call_output")
ITEMS = ("message", "reasoning", *CALLS, *RESULTS)
PARTS = {
    "system": SPOKEN,
    "developer": SPOKEN,
    "user": (*SPOKEN, "input_image", "input_file", "input_audio"),
    "assistant": (*SPOKEN, "refusal"),
    "tool": (*SPOKEN, "input_image", "input_file"),
}
"""What may stand in the content of a message, by its role, and in what a tool gave back."""


def read(body: dict[str, Any]) -> Prompt:
    """Return what a request says.

    Raises:
        Untranslatable: something in it is no part of what translations know.
    """
    fields = opened(body, Dialect.RESPONSES)
    system, turns = conversation(list(_said(fields)))
    tools, provided = _tools(fields)
    prompt = Prompt(
        system=system,
        turns=turns,
        tools=tools,
        provider_tools=provided,
        choice=_choice(fields),
        parallel=fields.flag("parallel_tool_calls"),
        max_tokens=fields.count("max_output_tokens"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        streamed=bool(fields.flag("stream")),
        is_kept=fields.flag("store") is not False,
    )
    prompt = _with_reasoning(fields, _with_text(fields, prompt))
    if (options := fields.inner("stream_options")) is not None:
        options.close("stream options")
    fields.close("request", NOTHING)
    return replace(prompt, left_out=frozenset(fields.left_out))


# -- items ----------------------------------------------------------------------------------------


def _said(fields: StrictFields) -> Iterator[Utterance]:
    if instructions := fields.text("instructions"):
        yield Utterance(TurnRole.SYSTEM, (Text(instructions),), "instructions")
    asked = fields.alone("input")
    if asked is not None:
        yield Utterance(TurnRole.USER, (Text(asked),), "input")
    for item in fields.each("input"):
        said = _item(item)
        if said is None:
            item.left_out.add(THINKING)
        else:
            item.close("item", IN_ITEM)
            yield said


def _item(item: StrictFields) -> Utterance | None:
    """Return what an item says; None where it is a thought, which is never sent on."""
    kind = item.kind(ITEMS) if item.has("type") else "message"
    if kind == "message":
        return _message(item)
    if kind == "reasoning":
        return None
    if kind in CALLS:
        use = ToolUse(
            id=item.some_text("call_id"),
            name=item.some_text("name"),
            arguments=item.any_text(CALLS[kind]),
            is_custom=kind == "custom_tool_call",
        )
        return Utterance(TurnRole.ASSISTANT, (use,), item.path)
    return Utterance(TurnRole.USER, (_result(item, kind),), item.path)


def _message(item: StrictFields) -> Utterance:
    role = item.kind((*ROLES, "assistant"), "role")
    if not item.has("content"):
        raise item.refusal("content", "is missing")
    parts = tuple(_part(part, role) for part in item.parts("content", "input_text"))
    return Utterance(ROLES.get(role, TurnRole.ASSISTANT), parts, item.path)


def _result(item: StrictFields, kind: str) -> ToolResult:
    call_id = item.some_text("call_id")
    if not item.has("output"):
        raise item.refusal("output", "is missing")
    parts = [_part(part, "tool") for part in item.parts("output", "input_text")]
    content = tuple(
        part for part in parts if isinstance(part, Text | Image | Document) and part != Text("")
    )
    return ToolResult(call_id, content, is_custom=kind == "custom_tool_call_output")


def _part(part: StrictFields, role: str) -> Part:
    kind = part.kind(PARTS[role])
    found: Part
    if kind in SPOKEN:
        found = Text(part.any_text("text"))
    elif kind == "refusal":
        found = Text(part.any_text("refusal"))
    elif kind == "input_image":
        found = _image(part)
    elif kind == "input_file":
        found = _document(part)
    else:
        found = sound_said(part.must("input_audio"))
    part.close({"input_image": "image", "input_file": "file"}.get(kind, "part"), IN_PART)
    return found


def _image(part: StrictFields) -> Image:
    url = part.text("image_url") or ""
    if not is_url(url):
        raise part.refusal("image_url", "is neither an https: nor a data: URL")
    return Image(url)


def _document(part: StrictFields) -> Document:
    data, url, name = part.text("file_data"), part.text("file_url"), part.text("filename")
    if data and url:
        raise part.refusal("file_url", "stands beside file_data")
    source = data or url or ""
    if not is_url(source) or source.startswith("data:") is not bool(data):
        raise part.refusal("file_data" if data else "file_url", "is no data: or no https: URL")
    return Document(source, name or None)


# -- settings -------------------------------------------------------------------------------------


def _tools(
    fields: StrictFields,
) -> tuple[tuple[Tool | CustomTool, ...], tuple[ProviderTool, ...]]:
    tools: list[Tool | CustomTool] = []
    provided: list[ProviderTool] = []
    for tool in fields.each("tools"):
        kind = tool.some_text("type")
        if kind == "function":
            tools.append(_function(tool))
        elif kind == "custom":
            tools.append(_custom(tool))
        else:
            provided.append(provider_tool(kind))
            continue
        tool.close("tool", IN_TOOL)
    return tuple(tools), tuple(provided)


def _function(tool: StrictFields) -> Tool:
    return Tool(
        name=tool.some_text("name"),
        description=tool.text("description"),
        schema=schema_of(tool, "parameters"),
        strict=bool(tool.flag("strict")),
    )


def _custom(tool: StrictFields) -> CustomTool:
    name, description, grammar = tool.some_text("name"), tool.text("description"), None
    if (shape := tool.inner("format")) is not None:
        grammar = grammar_of(shape, None)
    return CustomTool(name, description, grammar)


def _choice(fields: StrictFields) -> ToolChoice | None:
    word = word_chosen(fields)
    choice = fields.inner("tool_choice")
    if choice is None:
        return word
    choice.kind(("function", "custom"))
    name = choice.some_text("name")
    choice.close("tool choice")
    return ToolChoice(Choosing.ONE, name)


def _with_text(fields: StrictFields, prompt: Prompt) -> Prompt:
    """Return a prompt with what a request says of the answer's text."""
    text = fields.inner("text")
    if text is None:
        return prompt
    prompt = replace(prompt, verbosity=text.text("verbosity"))
    shape = text.inner("format")
    text.close("text")
    if shape is None:
        return prompt
    kind = shape.kind(FORMATS)
    if kind == "json_schema":
        return replace(prompt, schema=schema_said(shape))
    shape.close("format")
    return replace(prompt, is_json=kind == "json_object")


def _with_reasoning(fields: StrictFields, prompt: Prompt) -> Prompt:
    """Return a prompt with how much is to be thought, and whether that is shown."""
    reasoning = fields.inner("reasoning")
    if reasoning is None:
        return prompt
    effort = reasoning.word("effort", Effort)
    reasoning.close("reasoning", IN_REASONING)
    shows = "reasoning.summary" in fields.left_out
    return replace(prompt, effort=effort, shows_thinking=shows)
