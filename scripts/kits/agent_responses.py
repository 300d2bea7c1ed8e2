"""The agent in Responses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.kits.agent import AgentTurn, OfferedTool
from scripts.kits.answers import CACHED, AgentAnswer, named_event, pieces, text_of

OUTPUT = "function_call_output"


def read(body: Mapping[str, Any]) -> AgentTurn:
    """Return what a request says."""
    given = body.get("input") or []
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    last = max((i for i, each in enumerate(items) if each.get("role") == "user"), default=0)
    since = items[last:]
    n_results = sum(
        each.get("type") == OUTPUT and since[i - 1].get("type") != OUTPUT
        for i, each in enumerate(since)
    )
    tools = [t for t in body.get("tools") or [] if t["type"] == "function"]
    form = (body.get("text") or {}).get("format") or {}
    return AgentTurn(
        tools=[OfferedTool(t["name"], t.get("parameters") or {}) for t in tools],
        n_results=n_results,
        said=text_of(since),
        prompt=text_of([each for each in items if each.get("role") == "user"]),
        schema=form.get("schema"),
        thinks="reasoning.encrypted_content" in (body.get("include") or []),
        streamed=body.get("stream") is True,
    )


def whole(answer: AgentAnswer) -> dict[str, Any]:
    """Return the answer in one object."""
    number = f"{answer.host}_{answer.number}"
    reasoning: dict[str, Any] = {"type": "reasoning", "id": f"rs_{number}", "summary": []}
    if answer.thinks:
        reasoning["encrypted_content"] = answer.signature
    output = [reasoning]
    if answer.call:
        called = {"call_id": f"call_{number}", "name": answer.call.name}
        call = {"type": "function_call", "id": f"fc_{number}", **called}
        output.append(call | {"arguments": answer.arguments, "status": "completed"})
    else:
        part = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        said = {"role": "assistant", "status": "completed", "content": [part]}
        output.append({"type": "message", "id": f"msg_{number}", **said})
    return {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": answer.model,
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.prompt_tokens + answer.output_tokens,
        },
    }


def events(answer: AgentAnswer, body: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the answer's stream, its events numbered."""
    for number, event in enumerate(_events(whole(answer))):
        yield named_event(event | {"sequence_number": number})


def _events(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    begun = response | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        bare = {"message": {"content": []}, "function_call": {"arguments": ""}}
        begin = item | bare.get(item["type"], {})
        if "status" in item:
            begin["status"] = "in_progress"
        yield {"type": "response.output_item.added", "output_index": index, "item": begin}
        yield from _inner(item, {"item_id": item["id"], "output_index": index})
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}


def _inner(item: dict[str, Any], at: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events between an item's begin and its end."""
    if item["type"] == "function_call":
        kind = "response.function_call_arguments"
        for piece in pieces(item["arguments"]):
            yield {"type": f"{kind}.delta", "delta": piece, **at}
        yield {"type": f"{kind}.done", "arguments": item["arguments"], **at}
    elif item["type"] == "message":
        (part,) = item["content"]
        at = at | {"content_index": 0}
        yield {"type": "response.content_part.added", "part": part | {"text": ""}, **at}
        for piece in pieces(part["text"]):
            yield {"type": "response.output_text.delta", "delta": piece, "logprobs": [], **at}
        done = {"text": part["text"], "logprobs": []}
        yield {"type": "response.output_text.done", **done, **at}
        yield {"type": "response.content_part.done", "part": part, **at}
