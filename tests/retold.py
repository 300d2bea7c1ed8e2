"""Conversations of Chat Completions, told in Messages and in Responses as their clients would.

What a dialect has no words for raises `Unsayable`, with what it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from conversations import Json, Turn

from telemetry.wire.sse import payloads

PIECE = 3
"""Characters of a piece in a stream: less than any token."""


class Unsayable(ValueError):
    """The dialect has no words for it."""


@dataclass
class Answer:
    """What an answer says, in whatever dialect."""

    text: str | None = None
    refusal: str = ""
    thinks: bool = False
    calls: list[Json] = field(default_factory=list)  # with id, name, arguments, kind
    finish: str = "stop"
    n_reasoning: int = 0
    fails: bool = False


def retell(turn: Turn, dialect: str) -> Turn:
    """Return the same call in another dialect."""
    tell_request, tell_answer = TELLERS[dialect]
    request = tell_request(turn.request)
    if not turn.answer:
        return replace(turn, request=request, dialect=dialect)
    heard = _heard(turn.answer)
    # Arguments that are no object can only come in pieces, where they are text.
    broken = dialect == "messages" and any(not _is_object(c["arguments"]) for c in heard.calls)
    told = tell_answer(heard, streamed=isinstance(turn.answer, str) or broken)
    if isinstance(told, list):
        newline = "\r\n" if isinstance(turn.answer, str) and "\r\n" in turn.answer else "\n"
        told = events(told, newline=newline)
    return replace(turn, request=request, answer=told, dialect=dialect)


def events(told: list[Json], *, newline: str = "\n") -> str:
    """Return a stream of named events."""
    lines = (f"event: {e['type']}{newline}data: {json.dumps(e)}{newline * 2}" for e in told)
    return "".join(lines)


# -- what is said --------------------------------------------------------------------------------


def _heard(answer: Json | str) -> Answer:
    heard = Answer()
    parts = (answer,) if isinstance(answer, dict) else map(json.loads, payloads(answer.encode()))
    for part in parts:
        heard.fails |= bool(part.get("error"))
        usage = part.get("usage") or {}
        details = usage.get("completion_tokens_details") or {}
        heard.n_reasoning = details.get("reasoning_tokens", 0)
        if len(part.get("choices", ())) > 1:
            raise Unsayable("several choices")
        for choice in part.get("choices", ()):
            heard.finish = choice.get("finish_reason") or heard.finish
            _hear(heard, choice.get("message") or choice.get("delta") or {})
    heard.fails |= heard.finish == "error"
    return heard


def _hear(heard: Answer, said: Json) -> None:
    if said.get("audio"):
        raise Unsayable("sound")
    content = said.get("content")
    if isinstance(content, list):
        heard.thinks |= any(part["type"] == "thinking" for part in content)
        content = "".join(part.get("text", "") for part in content)
    if content is not None:
        heard.text = (heard.text or "") + content
    heard.refusal += said.get("refusal") or ""
    heard.thinks |= bool(said.get("reasoning_content"))
    for piece in said.get("tool_calls") or ():
        _hear_call(heard, piece)
    if said.get("function_call"):
        _hear_call(heard, {"id": "call_legacy", "function": said["function_call"]})


def _hear_call(heard: Answer, piece: Json) -> None:
    kind = "custom" if "custom" in piece else "function"
    said = piece[kind]
    arguments = said.get("input" if kind == "custom" else "arguments") or ""
    arguments = json.dumps(arguments) if isinstance(arguments, dict) else arguments
    known = [c for c in heard.calls if c["index"] == piece.get("index")]
    if piece.get("id") and all(c["id"] != piece["id"] for c in heard.calls):
        at = {"index": piece.get("index"), "id": piece["id"], "name": said["name"], "kind": kind}
        heard.calls.append(at | {"arguments": arguments})
    else:
        known[-1]["arguments"] += arguments


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text or "{}"), dict)
    except ValueError:
        return False


def _cut(text: str) -> Iterator[str]:
    return (text[i : i + PIECE] for i in range(0, len(text), PIECE))


def _functions(request: Json) -> Iterator[Json]:
    """Yield what is offered: a function, or an entry of another kind."""
    for tool in request.get("tools") or ():
        yield tool.get("function") or tool
    yield from request.get("functions") or ()


def _chosen(request: Json) -> Any:
    legacy = request.get("function_call")
    return {"function": legacy} if legacy else request.get("tool_choice")


def _schema_wanted(request: Json) -> Json | None:
    form = request.get("response_format")
    return None if not form or form["type"] == "text" else form


def _require_one_answer(request: Json, *unsayable: str) -> None:
    for name in ("n", "seed", *unsayable):
        if request.get(name):
            raise Unsayable(name)


# -- Messages ------------------------------------------------------------------------------------


def _messages_request(request: Json) -> Json:
    _require_one_answer(request)
    told: Json = {"model": request["model"], "messages": [], "system": []}
    told["max_tokens"] = request.get("max_tokens") or request.get("max_completion_tokens") or 4096
    for message in request["messages"]:
        _add_message(told, message)
    told["system"] = told["system"] or None
    if request.get("stop"):
        told["stop_sequences"] = request["stop"]
    for name in ("temperature", "stream"):
        if name in request:
            told[name] = request[name]
    tools = [_messages_tool(each) for each in _functions(request)]
    if tools:
        told["tools"] = tools
    if choice := _chosen(request):
        told["tool_choice"] = _messages_choice(choice)
    if form := _schema_wanted(request):
        if "json_schema" not in form:
            raise Unsayable("JSON without a schema")
        schema = form["json_schema"]["schema"]
        told["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    return told


def _add_message(told: Json, message: Json) -> None:
    role, content = message["role"], message["content"]
    blocks = _messages_parts(content)
    if role in ("system", "developer"):
        told["system"] += blocks
        return
    if role == "tool":
        result = content if isinstance(content, str) else blocks
        id_ = message["tool_call_id"]
        blocks = [{"type": "tool_result", "tool_use_id": id_, "content": result}]
    for made in message.get("tool_calls") or ():
        said = made["function"]
        use = {"type": "tool_use", "id": made["id"], "name": said["name"]}
        blocks.append(use | {"input": json.loads(said["arguments"])})
    last = told["messages"][-1] if told["messages"] else None
    after_results = last and last["content"] and last["content"][0]["type"] == "tool_result"
    if last and after_results and role in ("tool", "user"):  # all stands in one message
        last["content"] += blocks
        return
    role = "user" if role == "tool" else role
    told["messages"].append({"role": role, "content": blocks})


def _messages_parts(content: Any) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    parts = []
    for part in content or ():
        if part["type"] == "image_url":
            source = {"type": "url", "url": part["image_url"]["url"]}
            marks = {k: v for k, v in part.items() if k == "cache_control"}
            part = {"type": "image", "source": source} | marks
        parts.append(part)
    return parts


def _messages_tool(said: Json) -> Json:
    if "type" in said and said["type"] == "web_search":
        return {"type": "web_search_20250305", "name": "web_search"}
    if "custom" in said:
        raise Unsayable("free text as a tool's input")
    return {"name": said["name"], "input_schema": said.get("parameters") or {"type": "object"}}


def _messages_choice(choice: Any) -> Json:
    if isinstance(choice, str):
        return {"type": {"required": "any"}.get(choice, choice)}
    if "function" not in choice:
        raise Unsayable("allowed tools")
    return {"type": "tool", "name": choice["function"]["name"]}


STOP_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "function_call": "tool_use"}


def _messages_answer(heard: Answer, *, streamed: bool) -> Json | list[Json]:
    if heard.finish == "content_filter":
        raise Unsayable("a filter apart from a refusal")
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "overloaded"}}
    blocks: list[Json] = []
    if heard.thinks or heard.n_reasoning:
        blocks.append({"type": "thinking", "thinking": "Hmm", "signature": "c2ln"})
    if heard.text:
        blocks.append({"type": "text", "text": heard.text})
    for made in heard.calls:
        arguments = made["arguments"] if streamed else json.loads(made["arguments"] or "{}")
        use = {"type": "tool_use", "id": made["id"], "name": made["name"]}
        blocks.append(use | {"input": arguments})
    reason = STOP_REASONS.get(heard.finish, "max_tokens")
    reason = "refusal" if heard.refusal else reason
    top = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    usage = {"input_tokens": 9, "output_tokens": 9}
    if not streamed:
        ended = {"content": blocks, "stop_reason": reason, "usage": usage}
        return error if heard.fails else top | ended
    began = top | {"content": [], "stop_reason": None, "usage": usage}
    told = [{"type": "message_start", "message": began}, {"type": "ping"}]
    for index, block in enumerate(blocks):
        told += _block_events(index, block)
    if heard.fails:
        return [*told, error]
    end = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}
    return [*told, end, {"type": "message_stop"}]


def _block_events(index: int, block: Json) -> Iterator[Json]:
    name, kind, said = {
        "text": ("text", "text_delta", "text"),
        "thinking": ("thinking", "thinking_delta", "thinking"),
        "tool_use": ("input", "input_json_delta", "partial_json"),
    }[block["type"]]
    empty: Any = {} if name == "input" else ""
    begin = {k: v for k, v in block.items() if k != "signature"} | {name: empty}
    yield {"type": "content_block_start", "index": index, "content_block": begin}
    for piece in _cut(block[name]):
        delta = {"type": kind, said: piece}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    if "signature" in block:
        delta = {"type": "signature_delta", "signature": block["signature"]}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


# -- Responses -----------------------------------------------------------------------------------


def _responses_request(request: Json) -> Json:
    _require_one_answer(request, "stop")
    told: Json = {"model": request["model"], "store": False}
    told["input"] = [item for message in request["messages"] for item in _items(message)]
    limit = request.get("max_tokens") or request.get("max_completion_tokens")
    if limit:
        told["max_output_tokens"] = limit
    for name in ("temperature", "stream"):
        if name in request:
            told[name] = request[name]
    tools = [_responses_tool(each) for each in _functions(request)]
    if tools:
        told["tools"] = tools
    if choice := _chosen(request):
        told["tool_choice"] = _responses_choice(choice)
    if form := _schema_wanted(request):
        wanted = {"type": form["type"], **form.get("json_schema", {})}
        told["text"] = {"format": wanted}
    return told


def _items(message: Json) -> Iterator[Json]:
    role, content = message["role"], message["content"]
    if role == "tool":
        output = _responses_parts(content)
        id_ = message["tool_call_id"]
        yield {"type": "function_call_output", "call_id": id_, "output": output}
        return
    if role != "assistant":
        yield {"role": role, "content": _responses_parts(content)}
        return
    if content or not message.get("tool_calls"):
        parts = [{"type": "output_text", "text": content, "annotations": []}]
        yield {"type": "message", "role": role, "content": parts, "id": "msg_1"}
    for made in message.get("tool_calls") or ():
        yield {"type": "function_call", "call_id": made["id"], **made["function"]}


def _responses_parts(content: Any) -> Any:
    if isinstance(content, str):
        return content
    parts = []
    for part in content:
        if part["type"] == "image_url":
            marks = {k: v for k, v in part.items() if k == "cache_control"}
            url = part["image_url"]
            parts.append({"type": "input_image", "image_url": url["url"], **marks})
        else:
            parts.append(part | {"type": "input_text"})
    return parts


def _responses_tool(said: Json) -> Json:
    if "custom" in said:
        return {"type": "custom", "name": said["custom"]["name"]}
    if "name" not in said:
        return said
    parameters = said.get("parameters")
    return {"type": "function", "name": said["name"], "parameters": parameters, "strict": False}


def _responses_choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return choice
    if "function" in choice:
        return {"type": "function", "name": choice["function"]["name"]}
    allowed = choice["allowed_tools"]
    tools = [{"type": "function", "name": t["function"]["name"]} for t in allowed["tools"]]
    return {"type": "allowed_tools", "mode": allowed["mode"], "tools": tools}


REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}


def _responses_answer(heard: Answer, *, streamed: bool) -> Json | list[Json]:
    output = list(_output(heard))
    status, details = "completed", None
    if heard.finish in REASONS:
        status, details = "incomplete", {"reason": REASONS[heard.finish]}
    error = {"code": "server_error", "message": "overloaded"} if heard.fails else None
    status = "failed" if heard.fails else status
    usage = {"input_tokens": 9, "output_tokens": 9 + heard.n_reasoning}
    usage |= {"output_tokens_details": {"reasoning_tokens": heard.n_reasoning}}
    top = {"id": "resp_1", "object": "response", "status": status, "error": error, "model": "m"}
    whole = top | {"incomplete_details": details, "output": output, "usage": usage}
    if not streamed:
        return whole
    began = whole | {"status": "in_progress", "output": [], "usage": None, "error": None}
    told = [{"type": "response.created", "response": began}]
    for index, item in enumerate(output):
        told += _item_events(index, item)
    return [*told, {"type": f"response.{status}", "response": whole}]


def _output(heard: Answer) -> Iterator[Json]:
    if heard.thinks:
        yield {"type": "reasoning", "id": "rs_1", "summary": []}
    parts: list[Json] = []
    if heard.text is not None:
        parts.append({"type": "output_text", "text": heard.text, "annotations": []})
    if heard.refusal:
        parts.append({"type": "refusal", "refusal": heard.refusal})
    if parts:
        yield {"type": "message", "id": "msg_1", "role": "assistant", "content": parts}
    for made in heard.calls:
        custom = made["kind"] == "custom"
        called = {"type": "custom_tool_call" if custom else "function_call", "id": "fc_1"}
        called |= {"call_id": made["id"], "name": made["name"]}
        yield called | {"input" if custom else "arguments": made["arguments"]}


def _item_events(index: int, item: Json) -> Iterator[Json]:
    at = {"output_index": index}
    empty: Json = {"content": []} if item["type"] == "message" else {}
    yield {"type": "response.output_item.added", "item": item | empty} | at
    for part in item.get("content") or ():
        kind = "output_text" if "text" in part else "refusal"
        for piece in _cut(part.get("text", part.get("refusal"))):
            yield {"type": f"response.{kind}.delta", "delta": piece} | at
    for piece in _cut(item.get("arguments", "")):
        yield {"type": "response.function_call_arguments.delta", "delta": piece} | at
    yield {"type": "response.output_item.done", "item": item} | at


TELLERS: dict[str, Any] = {
    "messages": (_messages_request, _messages_answer),
    "responses": (_responses_request, _responses_answer),
}
