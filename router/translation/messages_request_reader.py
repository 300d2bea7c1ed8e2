"""Messages: what a request says."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from router.endpoints.entries import Dialect
from router.translation.advisory import THINKING
from router.translation.efforts import effort_of
from router.translation.exact import encoded
from router.translation.fields import Nothing, StrictFields, opened
from router.translation.media import DataUrl, is_url, media_type
from router.translation.prompt import (
    Choosing,
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
)
from router.translation.tools import CALLER, PLAIN, provider_tool, schema_of
from router.translation.turns import Utterance, conversation

CHOICES = {
    "auto": Choosing.AUTO,
    "none": Choosing.NONE,
    "any": Choosing.ANY,
    "tool": Choosing.ONE,
}
BLOCKS = {
    TurnRole.SYSTEM: ("text",),
    TurnRole.USER: ("text", "image", "document", "tool_result"),
    TurnRole.ASSISTANT: ("text", "thinking", "redacted_thinking", "tool_use"),
}
IN_RESULT = ("text", "image", "document", "tool_reference")
NOTHING: Nothing = {
    "betas": ([],),
    "container": (),
    "mcp_servers": ([],),
    "inference_geo": (),
    "speed": ("standard",),
    "diagnostics": (),
    "fallbacks": ([],),
    "compaction": (),
}
"""What no other dialect has, and what it may hold without saying anything."""
IN_BLOCK: Nothing = {
    "citations": ([], {"enabled": False}),
    "context": ("",),
    "transformations": (),
    **CALLER,
}


def read(body: dict[str, Any]) -> Prompt:
    """Return what a request says.

    Raises:
        Untranslatable: something in it is no part of what translations know.
    """
    fields = opened(body, Dialect.MESSAGES)
    system = tuple(_block(block, ("text",)) for block in fields.parts("system", "text"))
    first = Utterance(TurnRole.SYSTEM, tuple(part for part in system if part), "system")
    before, turns = conversation([*([first] if first.parts else []), *_said(fields)])
    tools, provided = _tools(fields)
    choice, parallel = _choice(fields)
    prompt = Prompt(
        system=before,
        turns=turns,
        tools=tools,
        provider_tools=provided,
        choice=choice,
        parallel=parallel,
        max_tokens=fields.count("max_tokens"),
        temperature=fields.number("temperature"),
        top_p=fields.number("top_p"),
        top_k=fields.count("top_k"),
        stop=fields.texts("stop_sequences"),
        streamed=bool(fields.flag("stream")),
    )
    prompt = _with_output(fields, prompt)
    fields.close("request", NOTHING)
    return replace(prompt, left_out=frozenset(fields.left_out))


# -- messages -------------------------------------------------------------------------------------


def _said(fields: StrictFields) -> list[Utterance]:
    said = []
    for message in fields.each("messages"):
        role = message.word("role", TurnRole)
        if role is None:
            raise message.refusal("role", "is missing")
        if not message.has("content"):
            raise message.refusal("content", "is missing")
        blocks = [_block(block, BLOCKS[role]) for block in message.parts("content", "text")]
        said.append(Utterance(role, tuple(block for block in blocks if block), message.path))
        message.close("message")
    return said


def _block(block: StrictFields, kinds: tuple[str, ...]) -> Part | None:
    """Return what a block says; None where it is a thought, which is never sent on."""
    kind = block.kind(kinds)
    found: Part | None = None
    if kind == "text":
        found = Text(block.any_text("text"))
    elif kind == "tool_use":
        found = _call(block)
    elif kind == "tool_result":
        found = _result(block)
    elif kind == "tool_reference":
        found = Text(block.some_text("tool_name"))  # who reads it has the tool before its eyes
    elif kind == "image":
        found = Image(_url(block.must("source"), ()))
    elif kind == "document":
        name = block.text("title") or None
        found = Document(_url(block.must("source"), ("application/pdf",)), name)
    else:
        block.left_out.add(THINKING)
        return None
    block.close("tool result" if kind == "tool_result" else "block", IN_BLOCK)
    return found


def _call(block: StrictFields) -> ToolUse:
    takes = block.mapping("input")
    if takes is None:
        raise block.refusal("input", "is missing")
    return ToolUse(block.some_text("id"), block.some_text("name"), encoded(takes))


def _result(block: StrictFields) -> ToolResult:
    call_id = block.some_text("tool_use_id")
    content: list[Text | Image | Document] = []
    for inner in block.parts("content", "text"):
        part = _block(inner, IN_RESULT)
        if isinstance(part, Text | Image | Document) and part != Text(""):
            content.append(part)
    if block.flag("is_error"):
        if not content:
            raise block.refusal("is_error", "is all that says that the tool failed")
        block.left_out.add("is_error")
    return ToolResult(call_id, tuple(content))


def _url(source: StrictFields, media_types: tuple[str, ...]) -> str:
    if source.kind(("base64", "url")) == "base64":
        held = DataUrl(media_type(source.some_text("media_type")), source.some_text("data"))
        if media_types and held.media_type not in media_types:
            raise source.refusal("media_type", f"is none of {', '.join(media_types)}")
        url = held.url
    else:
        url = source.some_text("url")
        if not is_url(url) or url.startswith("data:"):
            raise source.refusal("url", "is no https: URL")
    source.close("source")
    return url


# -- settings -------------------------------------------------------------------------------------


def _tools(fields: StrictFields) -> tuple[tuple[Tool, ...], tuple[ProviderTool, ...]]:
    tools: list[Tool] = []
    provided: list[ProviderTool] = []
    for tool in fields.each("tools"):
        kind = tool.text("type") or "custom"
        if kind != "custom":
            provided.append(provider_tool(kind))
            continue
        found = Tool(
            name=tool.some_text("name"),
            description=tool.text("description"),
            schema=schema_of(tool, "input_schema"),
            strict=bool(tool.flag("strict")),
        )
        tool.close("tool", PLAIN)
        tools.append(found)
    return tuple(tools), tuple(provided)


def _choice(fields: StrictFields) -> tuple[ToolChoice | None, bool | None]:
    """Return whether a tool must be called, and whether several may be at once."""
    choice = fields.inner("tool_choice")
    if choice is None:
        return None, None
    kind = choice.kind(CHOICES)
    name = choice.some_text("name") if kind == "tool" else None
    one_by_one = choice.flag("disable_parallel_tool_use")
    choice.close("tool choice")
    return ToolChoice(CHOICES[kind], name), None if one_by_one is None else not one_by_one


def _with_output(fields: StrictFields, prompt: Prompt) -> Prompt:
    """Return a prompt with what a request says of the answer: its shape, and the thinking."""
    config = fields.inner("output_config")
    schema = _schema(fields.inner("output_format"))
    word = None
    if config is not None:
        inner = _schema(config.inner("format"))
        if schema and inner and schema != inner:
            raise fields.refusal("output_format", "is not what output_config.format says")
        schema = inner or schema
        word = config.word("effort", Effort)
        config.close("output config")
    prompt = replace(prompt, schema=schema, effort=word)
    thinking = fields.inner("thinking")
    return prompt if thinking is None else _with_thinking(thinking, prompt)


def _schema(shape: StrictFields | None) -> Schema | None:
    if shape is None:
        return None
    shape.kind(("json_schema",))
    schema = shape.mapping("schema")
    if schema is None:
        raise shape.refusal("schema", "is missing")
    shape.close("schema")
    return Schema(schema)


def _with_thinking(thinking: StrictFields, prompt: Prompt) -> Prompt:
    kind, word = thinking.kind(("enabled", "adaptive", "disabled")), prompt.effort
    budget = thinking.count("budget_tokens") if kind == "enabled" else None
    display = thinking.text("display")
    if display not in (None, "summarized", "omitted"):
        raise thinking.refusal("display", "is neither summarized nor omitted")
    thinking.close("thinking")
    if kind == "disabled":
        thinking.left_out |= {"output_config.effort"} if word else set()
        return replace(prompt, effort=Effort.NONE)
    if kind == "enabled" and budget is None:
        raise thinking.refusal("budget_tokens", "is missing")
    asked = word or (Effort.HIGH if budget is None else effort_of(budget))
    shows = display != "omitted"
    return replace(prompt, effort=asked, thinking_tokens=budget, shows_thinking=shows)
