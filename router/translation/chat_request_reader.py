"""Chat Completions: what a request says."""

from __future__ import annotations

from typing import Any

from router.endpoints.entries import Dialect
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
    Schema,
    Text,
    Tool,
    ToolChoice,
    ToolResult,
    ToolUse,
    TurnRole,
    Untranslatable,
)
from router.translation.tools import PLAIN, provider_tool, schema_of
from router.translation.turns import Utterance, conversation

PARTS = ("text", "image_url", "file", "input_audio")
NOTHING: Nothing = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "seed": (),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
    "functions": ([],),
    "function_call": ("none",),
}
"""What no other dialect has, and what it may hold without saying anything."""
OF_CLIENTS = ("index", "parsed", "parsed_arguments")
"""What OpenAI's own package adds to an answer that it streamed, and sends back with it: it says
again what stands beside it."""
IN_MESSAGE: Nothing = {"name": (), "audio": (), "function_call": (), "annotations": ([],)}


def read(body: dict[str, Any]) -> Prompt:
    """Return what a request says.

    Raises:
        Untranslatable: something in it is no part of what translations know.
    """
    fields = opened(body, Dialect.CHAT)
    system, turns = conversation(_said(fields))
    tools, provided = _tools(fields)
    schema, is_json = _format(fields)
    return Prompt(
        system=system,
        turns=turns,
        tools=tools,
        provider_tools=provided,
        choice=_choice(fields),
        parallel=fields.flag("parallel_tool_calls"),
        max_tokens=_max_tokens(fields),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        stop=fields.texts_or_one("stop"),
        schema=schema,
        is_json=is_json,
        effort=fields.word("reasoning_effort", Effort),
        verbosity=fields.text("verbosity"),
        streamed=bool(fields.flag("stream")),
        left_out=_left_out(fields),
    )


def _left_out(fields: StrictFields) -> frozenset[str]:
    """Judge what nobody took, and return the advisory fields of the whole request."""
    options = fields.inner("stream_options")
    if options is not None:
        options.flag("include_usage")  # the answer is streamed to the caller as it says there
        options.close("stream options")
    fields.close("request", NOTHING)
    return frozenset(fields.left_out)


# -- messages -------------------------------------------------------------------------------------


def _said(fields: StrictFields) -> list[Utterance]:
    calls: dict[str, ToolUse] = {}  # the latest under each id
    said = []
    for message in fields.each("messages"):
        role = message.kind((*ROLES, "assistant", "tool"), "role")
        if role == "assistant":
            parts = _assistant(message)
            calls |= {part.id: part for part in parts if isinstance(part, ToolUse)}
            said.append(Utterance(TurnRole.ASSISTANT, parts, message.path))
        elif role == "tool":
            said.append(Utterance(TurnRole.USER, (_result(message, calls),), message.path))
        else:
            said.append(Utterance(ROLES[role], _content(message, role), message.path))
        message.close("message", IN_MESSAGE)
    return said


def _content(message: StrictFields, role: str) -> tuple[Part, ...]:
    if not message.has("content"):
        raise message.refusal("content", "is missing")
    kinds = PARTS if role == "user" else ("text",)
    return tuple(_part(part, kinds) for part in message.parts("content", "text"))


def _part(part: StrictFields, kinds: tuple[str, ...]) -> Part:
    kind = part.kind(kinds)
    found: Part
    if kind == "text":
        found = Text(part.any_text("text"))
    elif kind == "image_url":
        found = _image(part.must("image_url"))
    elif kind == "file":
        found = _document(part.must("file"))
    else:
        found = sound_said(part.must("input_audio"))
    part.close("part")
    return found


def _image(image: StrictFields) -> Image:
    url = image.some_text("url")
    if not is_url(url):
        raise image.refusal("url", "is neither an https: nor a data: URL")
    image.close("image")
    return Image(url)


def _document(file: StrictFields) -> Document:
    url, name = file.some_text("file_data"), file.text("filename")
    if not url.startswith("data:"):
        raise file.refusal("file_data", "is no data: URL")
    file.close("file", {"file_id": ()})
    return Document(url, name or None)


def _assistant(message: StrictFields) -> tuple[Part, ...]:
    said: list[Part] = []
    for part in message.parts("content", "text"):
        kind = part.kind(("text", "refusal"))
        said.append(Text(part.any_text(kind)))
        part.close("part")
    refused = message.text("refusal")
    said += [Text(refused)] if refused else []
    said += [_call(call) for call in message.each("tool_calls")]
    _drop_clients_own(message)
    return tuple(said)


def _call(call: StrictFields) -> ToolUse:
    kind = call.kind(("function", "custom"))
    inner = call.must(kind)
    takes = "input" if kind == "custom" else "arguments"
    use = ToolUse(
        id=call.some_text("id"),
        name=inner.some_text("name"),
        arguments=inner.any_text(takes),
        is_custom=kind == "custom",
    )
    for fields in (inner, call):
        _drop_clients_own(fields)
        fields.close("call")
    return use


def _drop_clients_own(fields: StrictFields) -> None:
    for name in OF_CLIENTS:
        fields.take(name)


def _result(message: StrictFields, calls: dict[str, ToolUse]) -> ToolResult:
    call_id = message.some_text("tool_call_id")
    call = calls.get(call_id)
    name = message.text("name")  # some clients say once more which tool it was
    if name and (call is None or call.name != name):
        raise message.refusal("name", "is not the name of the tool that was called")
    content = tuple(part for part in _content(message, "tool") if isinstance(part, Text))
    found = tuple(part for part in content if part.text)
    return ToolResult(call_id, found, is_custom=call is not None and call.is_custom)


# -- settings -------------------------------------------------------------------------------------


def _tools(
    fields: StrictFields,
) -> tuple[tuple[Tool | CustomTool, ...], tuple[ProviderTool, ...]]:
    tools: list[Tool | CustomTool] = []
    provided: list[ProviderTool] = []
    for tool in fields.each("tools"):
        kind = tool.some_text("type")
        if kind == "function":
            tools.append(_function(tool.must(kind)))
        elif kind == "custom":
            tools.append(_custom(tool.must(kind)))
        else:
            provided.append(provider_tool(kind))
            continue
        tool.close("tool", PLAIN)
    return tuple(tools), tuple(provided)


def _function(tool: StrictFields) -> Tool:
    found = Tool(
        name=tool.some_text("name"),
        description=tool.text("description"),
        schema=schema_of(tool, "parameters"),
        strict=bool(tool.flag("strict")),
    )
    tool.close("tool", PLAIN)
    return found


def _custom(tool: StrictFields) -> CustomTool:
    name, description = tool.some_text("name"), tool.text("description")
    shape = tool.inner("format")
    grammar = None if shape is None else grammar_of(shape, "grammar")
    tool.close("tool", PLAIN)
    return CustomTool(name, description, grammar)


def _choice(fields: StrictFields) -> ToolChoice | None:
    word = word_chosen(fields)
    choice = fields.inner("tool_choice")
    if choice is None:
        return word
    kind = choice.kind(("function", "custom"))
    inner = choice.must(kind)
    found = ToolChoice(Choosing.ONE, inner.some_text("name"))
    inner.close("tool choice")
    choice.close("tool choice")
    return found


def _max_tokens(fields: StrictFields) -> int | None:
    newer, older = fields.count("max_completion_tokens"), fields.count("max_tokens")
    if newer and older and newer != older:
        raise Untranslatable("max_tokens", "is not what max_completion_tokens says")
    return newer or older


def _format(fields: StrictFields) -> tuple[Schema | None, bool]:
    shape = fields.inner("response_format")
    if shape is None:
        return None, False
    kind = shape.kind(FORMATS)
    schema = schema_said(shape.must("json_schema")) if kind == "json_schema" else None
    shape.close("format")
    return schema, kind == "json_object"
