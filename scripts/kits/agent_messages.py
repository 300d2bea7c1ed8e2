"""The agent in Messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scripts.kits.agent import AgentTurn, OfferedTool
from scripts.kits.answers import CACHED, AgentAnswer, named_event, pieces, text_of

KEPT = ("messages", "system", "tools")
"""What a thread keeps of its turns."""
THOUGHT = "The folder first, then the notes."


def read(body: Mapping[str, Any]) -> AgentTurn:
    """Return what a request says."""
    messages = body.get("messages", [])
    spoke = [i for i, m in enumerate(messages) if m["role"] == "user" and not _results(m)]
    since = messages[max(spoke, default=0) :]
    tools = [t for t in body.get("tools") or [] if "input_schema" in t]
    form = body.get("output_format") or (body.get("output_config") or {}).get("format") or {}
    return AgentTurn(
        tools=[OfferedTool(t["name"], t["input_schema"]) for t in tools],
        n_results=sum(bool(_results(m)) for m in since),
        said=text_of([m["content"] for m in since]),
        prompt=text_of([m["content"] for m in messages if m["role"] == "user"]),
        schema=form.get("schema"),
        thinks=(body.get("thinking") or {}).get("type") in ("enabled", "adaptive"),
        streamed=body.get("stream") is True,
    )


def thread_of(body: Mapping[str, Any]) -> str:
    """Return the id of the answer that a request goes on from; "" where it holds all itself."""
    return str((body.get("thread") or {}).get("previous_message_id") or "")


def with_thread(body: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as if it held what its thread keeps."""
    earlier = {name: kept[name] for name in KEPT if name in kept}
    return {**earlier, **body, "messages": [*kept["messages"], *body["messages"]]}


def kept_of(body: Mapping[str, Any], answer: AgentAnswer) -> tuple[str, dict[str, Any]] | None:
    """Return the id under which a thread goes on, and what it keeps; None where there is none."""
    if not body.get("thread"):
        return None
    said = whole(answer)
    turns = [*body["messages"], {"role": "assistant", "content": said["content"]}]
    return said["id"], {**body, "messages": turns}


def _results(message: Mapping[str, Any]) -> list[Any]:
    content = message["content"]
    return [] if isinstance(content, str) else [b for b in content if b["type"] == "tool_result"]


def whole(answer: AgentAnswer) -> dict[str, Any]:
    """Return the answer in one object."""
    blocks: list[dict[str, Any]] = []
    if answer.thinks:
        blocks.append({"type": "thinking", "thinking": THOUGHT, "signature": answer.signature})
    if answer.call:
        use = {"id": f"toolu_{answer.host}_{answer.number}", "name": answer.call.name}
        blocks.append({"type": "tool_use", **use, "input": answer.call.arguments})
    else:
        blocks.append({"type": "text", "text": answer.text})
    return {
        "id": f"msg_{answer.host}_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": answer.model,
        "content": blocks,
        "stop_reason": "tool_use" if answer.call else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": answer.prompt_tokens - CACHED,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": CACHED,
            "output_tokens": answer.output_tokens,
        },
    }


def events(answer: AgentAnswer, body: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the answer's stream."""
    message = whole(answer)
    begun = message | {"content": [], "stop_reason": None}
    begun["usage"] = message["usage"] | {"output_tokens": 1}
    yield named_event({"type": "message_start", "message": begun})
    yield named_event({"type": "ping"})
    for index, block in enumerate(message["content"]):
        begin, deltas = _parts(block, answer)
        at = {"index": index}
        yield named_event({"type": "content_block_start", **at, "content_block": begin})
        for delta in deltas:
            yield named_event({"type": "content_block_delta", **at, "delta": delta})
        yield named_event({"type": "content_block_stop", **at})
    delta = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    usage = {"output_tokens": answer.output_tokens}
    yield named_event({"type": "message_delta", "delta": delta, "usage": usage})
    yield named_event({"type": "message_stop"})


def _parts(
    block: dict[str, Any], answer: AgentAnswer
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return how a block begins, and what is added to it."""
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": p} for p in pieces(block["thinking"])]
        sealed = {"type": "signature_delta", "signature": block["signature"]}
        return block | {"thinking": "", "signature": ""}, [*deltas, sealed]
    if block["type"] == "tool_use":
        parts = pieces(answer.arguments)
        deltas = [{"type": "input_json_delta", "partial_json": p} for p in parts]
        return block | {"input": {}}, deltas
    deltas = [{"type": "text_delta", "text": p} for p in pieces(block["text"])]
    return block | {"text": ""}, deltas
