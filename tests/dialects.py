"""A provider that speaks every dialect that there is as their makers' servers do.

What it answers follows from what it is asked: a call of a tool where tools are offered, thinking
where that is asked for, an object where a schema is, else two words.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from conftest import Reply, Seen, default_reply, event

WORDS = ("hello", " there")
SAID = "".join(WORDS)
PERSON = {"name": "Ann", "age": 7}
ARGUMENTS = {"city": "Paris", "days": 12345678901234567890}
THOUGHT, SIGNATURE = ("They", " greet me."), "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"
INPUT, CACHED, WRITTEN, OUTPUT, REASONING = 10, 30, 5, 6, 4
"""Tokens: in all dialects the same, though each counts them in its own way."""
PROMPT = INPUT + CACHED + WRITTEN
COUNTED = 42


def speak(call: Seen) -> Reply:
    """Answer a call in the dialect of its path."""
    path = call.path.partition("?")[0]
    if path.endswith("/count_tokens"):
        return Reply(body=json.dumps({"input_tokens": COUNTED}).encode())
    if path.endswith("/messages"):
        return _reply(message(call.json), call, message_events)
    if path.endswith("/v1/completions"):
        return completion_reply(call.json)
    if path.endswith("/responses"):
        return _reply(response(call.json), call, response_events)
    return default_reply(call)


def _reply(answer: dict[str, Any], call: Seen, events: Any) -> Reply:
    headers = {"request-id": "req_upstream", "x-request-id": "req_upstream"}
    if call.json.get("stream"):
        return Reply(chunks=[named(event) for event in events(answer)], headers=headers)
    return Reply(body=json.dumps(answer).encode(), headers=headers)


def named(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


# -- Messages ------------------------------------------------------------------------------------


def message(asked: dict[str, Any]) -> dict[str, Any]:
    """A whole answer of Messages."""
    blocks: list[dict[str, Any]] = []
    if (asked.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
        blocks.append({"type": "thinking", "thinking": "".join(THOUGHT), "signature": SIGNATURE})
    wants = asked.get("output_format") or (asked.get("output_config") or {}).get("format")
    text = json.dumps(PERSON) if wants else SAID
    blocks.append({"type": "text", "text": text, "citations": None})
    is_result = '"tool_result"' in json.dumps(asked["messages"][-1])
    calls = bool(asked.get("tools")) and not is_result
    if calls:
        name = asked["tools"][0]["name"]
        blocks.append({"type": "tool_use", "id": "toolu_1", "name": name, "input": ARGUMENTS})
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked["model"],
        "content": blocks,
        "stop_reason": "tool_use" if calls else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": INPUT,
            "cache_creation_input_tokens": WRITTEN,
            "cache_read_input_tokens": CACHED,
            "output_tokens": OUTPUT,
            "service_tier": "standard",
        },
    }


def message_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, as it is streamed."""
    begun = {"content": [], "stop_reason": None}
    usage = answer["usage"] | {"output_tokens": 1}
    yield {"type": "message_start", "message": answer | begun | {"usage": usage}}
    yield {"type": "ping"}
    for index, block in enumerate(answer["content"]):
        begin, deltas = _block_deltas(block)
        yield {"type": "content_block_start", "index": index, "content_block": begin}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ends = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    counts = {"output_tokens": answer["usage"]["output_tokens"]}
    yield {"type": "message_delta", "delta": ends, "usage": counts}
    yield {"type": "message_stop"}


def _block_deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": part} for part in THOUGHT]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
        return block | {"thinking": "", "signature": ""}, deltas
    if block["type"] == "tool_use":
        said = json.dumps(block["input"])
        parts = ["", said[:9], said[9:]]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        return block | {"input": {}}, deltas
    text = block["text"]
    deltas = [{"type": "text_delta", "text": part} for part in (text[:5], text[5:])]
    return {"type": "text", "text": ""}, deltas


def message_error(kind: str, status: int, **headers: str) -> Reply:
    """A refusal of Messages."""
    error = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_up"}
    return Reply(status=status, body=json.dumps(error).encode(), headers=headers)


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


# -- Responses -----------------------------------------------------------------------------------


def response(asked: dict[str, Any]) -> dict[str, Any]:
    """A whole response."""
    items: list[dict[str, Any]] = []
    if asked.get("reasoning"):
        parts = [{"type": "summary_text", "text": "".join(THOUGHT)}]
        kept = {"encrypted_content": SIGNATURE}
        items.append({"type": "reasoning", "id": "rs_1", "summary": parts, **kept})
    wants = ((asked.get("text") or {}).get("format") or {}).get("type") == "json_schema"
    text = json.dumps(PERSON) if wants else SAID
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    shown = {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant"}
    items.append({**shown, "content": [part]})
    if asked.get("tools") and "function_call_output" not in json.dumps(asked["input"]):
        call = {"id": "fc_1", "call_id": "call_1", "name": asked["tools"][0]["name"]}
        said = {"arguments": json.dumps(ARGUMENTS), "status": "completed"}
        items.append({"type": "function_call", **call, **said})
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": asked["model"],
        "output": items,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": PROMPT,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": OUTPUT,
            "output_tokens_details": {"reasoning_tokens": REASONING},
            "total_tokens": PROMPT + OUTPUT,
        },
    }


def response_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The same, as it is streamed."""
    for number, said in enumerate(_response_events(answer)):
        yield {**said, "sequence_number": number}


def _response_events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = answer | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(answer["output"]):
        empty: dict[str, Any] = {"message": {"content": []}, "function_call": {"arguments": ""}}
        begin = item | empty.get(item["type"], {"summary": []}) | {"status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": index, "item": begin}
        yield from _item_events(item, {"item_id": item["id"], "output_index": index})
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{answer['status']}", "response": answer}


def _item_events(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if item["type"] == "function_call":
        said = item["arguments"]
        for part in (said[:9], said[9:]):
            yield {"type": "response.function_call_arguments.delta", "delta": part, **at}
        yield {"type": "response.function_call_arguments.done", "arguments": said, **at}
        return
    is_text = item["type"] == "message"
    kind = "response.output_text" if is_text else "response.reasoning_summary_text"
    (part,) = item["content"] if is_text else item["summary"]
    at = at | ({"content_index": 0} if is_text else {"summary_index": 0})
    more: dict[str, Any] = {"logprobs": []} if is_text else {}
    around = "response.content_part" if is_text else "response.reasoning_summary_part"
    text = part["text"]
    yield {"type": f"{around}.added", "part": part | {"text": ""}, **at}
    for piece in (text[:5], text[5:]):
        yield {"type": f"{kind}.delta", "delta": piece, **more, **at}
    yield {"type": f"{kind}.done", "text": text, **more, **at}
    yield {"type": f"{around}.done", "part": part, **at}


def response_failed(answer: dict[str, Any]) -> dict[str, Any]:
    """The last event of a response that came to nothing."""
    error = {"code": "server_error", "message": "it broke"}
    failed = answer | {"status": "failed", "error": error, "output": []}
    return {"type": "response.failed", "response": failed, "sequence_number": 99}


def response_incomplete(answer: dict[str, Any]) -> dict[str, Any]:
    """A response that ran into its limit."""
    return answer | {
        "status": "incomplete",
        "incomplete_details": {"reason": "max_output_tokens"},
    }


# -- legacy completions --------------------------------------------------------------------------


def completion(asked: dict[str, Any]) -> dict[str, Any]:
    """A whole answer: a choice for each prompt."""
    prompts = asked.get("prompt", "")
    n = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str | list) else 1
    choices = [
        {"text": SAID, "index": i, "logprobs": None, "finish_reason": "length"} for i in range(n)
    ]
    return {
        "id": "cmpl_1",
        "object": "text_completion",
        "created": 1,
        "model": asked["model"],
        "choices": choices,
        "usage": {
            "prompt_tokens": PROMPT,
            "completion_tokens": OUTPUT,
            "total_tokens": PROMPT + OUTPUT,
        },
    }


def completion_events(asked: dict[str, Any]) -> list[bytes]:
    """The same, as it is streamed: text, a reason for each end, the usage, the terminator."""
    whole = completion(asked)
    usage, choices = whole.pop("usage"), whole.pop("choices")
    out = []
    for text, finish in [*((word, None) for word in WORDS), ("", "length")]:
        for choice in choices:
            piece = choice | {"text": text, "finish_reason": finish}
            out.append(event(whole | {"choices": [piece]}))
    if (asked.get("stream_options") or {}).get("include_usage"):
        out.append(event(whole | {"choices": [], "usage": usage}))
    return [*out, b"data: [DONE]\n\n"]


def completion_reply(asked: dict[str, Any]) -> Reply:
    if asked.get("stream"):
        return Reply(chunks=completion_events(asked))
    return Reply(body=json.dumps(completion(asked)).encode())
