"""Prompts in the shape of another dialect: told with the field that Chat Completions has for it.

Endpoints of other dialects get chat translated; what is half of one and half of another would be
turned down by each, after it was paid for.
"""

from __future__ import annotations

from typing import Any

from telemetry.numbers import brief

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
TOOL_CALLS = 'tool_calls of the assistant and messages of role "tool"'
FOREIGN_PARTS = {
    "image": '{"type": "image_url", "image_url": {"url": "data:image/png;base64,…"}}',
    "input_image": '{"type": "image_url", "image_url": {"url": "…"}}',
    "input_text": '{"type": "text", "text": "…"}',
    "output_text": '{"type": "text", "text": "…"}',
    "input_file": '{"type": "file", "file": {"file_data": "…"}}',
    "document": '{"type": "file", "file": {"file_data": "…"}}',
    "tool_use": TOOL_CALLS,
    "tool_result": TOOL_CALLS,
    "thinking": "no thoughts: leave them out",
    "redacted_thinking": "no thoughts: leave them out",
}
"""Of Messages and Responses: what chat has in their place."""
FOREIGN_FIELDS = {
    "input": "write messages (a list) or prompt (a text)",
    "instructions": "write system",
    "model": "leave it out: each endpoint is asked for its own",
    "stream": "leave it out: nothing is streamed",
    "question": "write prompt",
    "answer": "write expected",
    "thinking": "write reasoning_effort",
    "max_output_tokens": "write max_tokens",
    "stop_sequences": "write stop",
}
TOOL = '{"type": "function", "function": {"name": "…", "parameters": {…}}}'


def message_problem(message: dict[str, Any]) -> tuple[str, str] | None:
    """Return what of a message is not of chat, as the field within it and the words."""
    role, content = message["role"], message.get("content")
    if role not in ROLES:
        return ".role", f"is {brief(role)}; write one of {', '.join(ROLES)}"
    has_calls = role == "assistant" and ("tool_calls" in message or "function_call" in message)
    if content is None and not has_calls:
        return ".content", "is null; write a text"
    if content is not None and not isinstance(content, str | list):
        return ".content", f"is {brief(content)}; write a text, or a list of parts"
    for i, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            return f".content[{i}]", f"is {brief(part)}; write an object with a type"
        if (fix := FOREIGN_PARTS.get(part["type"])) is not None:
            said = f"is of another dialect ({part['type']}); Chat Completions has {fix}"
            return f".content[{i}]", said
    return None


def tool_problem(tool: Any) -> str | None:
    """Return why a tool is none of chat."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if kind == "function" and isinstance(tool.get("function"), dict):
        return None
    if isinstance(kind, str) and kind != "function":
        return None  # of a provider's own
    return f"is {brief(tool)}; write {TOOL}"
