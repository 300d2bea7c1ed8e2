"""Conversations made up from a seed, as clients of each dialect would send them.

A story is told without the code that is tried. What a dialect cannot tell raises `Untold`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from router.endpoints.entries import Dialect
from router.translation.advisory import ADVISORY, BLANK_TEXT, LOST_IN
from router.translation.prompt import (
    Choosing,
    Document,
    Effort,
    Manner,
    Part,
    Prompt,
    Reasoning,
    Schema,
    Talk,
    Text,
    ToolChoice,
    ToolResult,
    ToolUse,
    TurnRole,
    Written,
)

Json = dict[str, Any]
DIRECTIONS = [
    (Dialect.MESSAGES, Dialect.CHAT),
    (Dialect.CHAT, Dialect.MESSAGES),
    (Dialect.RESPONSES, Dialect.CHAT),
    (Dialect.RESPONSES, Dialect.MESSAGES),
]
PNG, PDF = "data:image/png;base64,iVBORw0KGgo=", "data:application/pdf;base64,JVBERi0="
BUDGETS = {"low": 4000, "medium": 10_000, "high": 31_999, "xhigh": 40_000, "max": 70_000}
"""Tokens to think with, as clients ask for them, and what word is meant."""
WORDS = ["Paris", "aé\n字", '"quoted" \\ 😀', "{not json", "<think>", "a" * 300]
VALUES = [1, 0, -1, 12345678901234567890123, 0.1, 1e-9, 1.5e300, True, None, "", "字", [], {}]
CLOSED = {row.name for rows in ADVISORY.values() for row in rows}
CLOSED |= {name for rows in LOST_IN.values() for name in rows} | {"store", "reasoning"}
"""All that may be left out, but for tools that are run by the provider."""


class Untold(Exception):
    """A dialect has no words for a part of a story."""


@dataclass
class Story:
    """What a client wants to say, in no dialect's words; parts are pairs of kind and value."""

    system: list[str] = field(default_factory=list)
    turns: list[tuple[str, list[tuple[str, Any]]]] = field(default_factory=list)
    tools: list[Json] = field(default_factory=list)
    provided: bool = False
    settings: Json = field(default_factory=dict)
    advisory: bool = False


def story(rng: random.Random) -> Story:
    """Return one made-up conversation: most are plain, each oddity is rare."""
    told = Story(system=[rng.choice(WORDS) for _ in range(rng.choice([0, 1, 1, 2]))])
    if rng.random() < 0.6:
        told.tools = [_tool(rng, i) for i in range(rng.randint(1, 3))]
    for n in range(rng.randint(1, 4)):
        _tell_round(told, rng, n)
    if rng.random() < 0.9 and told.turns[-1][0] == "assistant":
        told.turns.append(("user", [("text", "and?")]))
    told.provided = rng.random() < 0.1
    told.advisory = rng.random() < 0.2
    told.settings = _settings(told, rng)
    return told


def _tool(rng: random.Random, i: int) -> Json:
    name = f"tool_{i}" if rng.random() < 0.97 else rng.choice(["a.b", "n" * 65, "n" * 129])
    schema: Json = {"type": "object", "properties": {"x": {"enum": [1, 0.5, None, 10**20]}}}
    if rng.random() < 0.03:
        schema = rng.choice([{"anyOf": [schema]}, {"type": "object", "oneOf": []}])
    return {
        "name": name,
        "description": rng.choice([None, "does it", ""]),
        "schema": schema,
        "strict": rng.random() < 0.2,
        "custom": rng.random() < 0.02,
    }


def _tell_round(told: Story, rng: random.Random, n: int) -> None:
    """Add what the user says, and maybe an answer with calls and their results."""
    told.turns.append(("user", [_user_part(rng) for _ in range(rng.choice([1, 1, 1, 2, 3]))]))
    if rng.random() < 0.02:
        told.turns.append(("system", [("text", "from now on")]))
    if rng.random() < 0.4:
        return
    parts: list[tuple[str, Any]] = []
    if rng.random() < 0.1:
        parts.append(("thought", "hm"))
    parts += [("text", rng.choice(WORDS)) for _ in range(rng.choice([0, 1, 1, 2]))]
    if rng.random() < 0.03:
        parts.append(("text", rng.choice(["", " \n"])))
    calls = [_call(rng, tool, f"call_{n}_{i}") for i, tool in enumerate(told.tools)]
    calls = calls if rng.random() < 0.6 else []
    parts += [("call", call) for call in calls]
    if rng.random() < 0.02:
        rng.shuffle(parts)
    if not any(kind in ("text", "call") for kind, _ in parts):
        parts.append(("text", "well"))
    told.turns.append(("assistant", parts))
    if calls:
        rng.shuffle(calls)
        results = [("result", _result(rng, call)) for call in calls]
        results = results if rng.random() < 0.98 else results[1:]
        after = [_user_part(rng)] if rng.random() < 0.2 else []
        told.turns.append(("user", results + after))


def _call(rng: random.Random, tool: Json, call_id: str) -> Json:
    arguments = {f"k{i}": rng.choice(VALUES) for i in range(rng.randint(0, 3))}
    if rng.random() < 0.02:
        call_id = rng.choice(["call:1", "call_0_0"])
    return {
        "id": call_id,
        "name": tool["name"],
        "arguments": arguments,
        "custom": tool["custom"],
        "broken": rng.random() < 0.02,
    }


def _result(rng: random.Random, call: Json) -> Json:
    content = [("text", rng.choice(WORDS)) for _ in range(rng.choice([0, 1, 1, 1, 2]))]
    if rng.random() < 0.05:
        content.append(("image", PNG))
    return {"id": call["id"], "custom": call["custom"], "content": content}


def _user_part(rng: random.Random) -> tuple[str, Any]:
    drawn = rng.random()
    if drawn < 0.8:
        return "text", rng.choice(WORDS)
    if drawn < 0.9:
        images = [PNG, PNG, "https://x.example/a.png", "http://x.example/a.png"]
        return "image", rng.choice([*images, "data:image/svg+xml,<svg/>"])
    if drawn < 0.98:
        return "document", (
            rng.choice([PDF, PDF, "https://x.example/a.pdf"]),
            rng.choice([None, "a.pdf"]),
        )
    return rng.choice([("sound", "UklGRg=="), ("text", " \n"), ("text", "")])


def _settings(told: Story, rng: random.Random) -> Json:
    """Return settings by the names that this file gives them; each is there now and then."""
    effort = rng.choice([None] * 6 + list(Effort))
    drawn: Json = {
        "max_tokens": rng.choice([None, 100, 4096, 40_000, 100_000]),
        "temperature": rng.choice([None, None, 0, 0.5, 1, 1.0, 1.3]),
        "top_p": rng.choice([None, None, None, 0.9, 1]),
        "top_k": 5 if rng.random() < 0.02 else None,
        "stop": _stop(rng),
        "stream": rng.choice([None, True, False]),
        "effort": effort if effort is None or rng.random() < 0.5 else None,
        "budget": rng.random() < 0.5,
        "verbosity": rng.choice(["low", "medium"]) if rng.random() < 0.04 else None,
        "json": rng.random() < 0.02,
        "schema": _shape(rng) if rng.random() < 0.1 else None,
        "store": rng.choice([False] * 9 + [None]),
        "unknown": rng.random() < 0.02,
    }
    if told.tools:
        drawn["choice"] = rng.choice([None, None, "auto", "none", "any", told.tools[0]["name"]])
        drawn["parallel"] = rng.choice([None, None, True, False])
    return drawn


def _stop(rng: random.Random) -> list[str] | None:
    odd = [["END"], ["a", "b"], [str(i) for i in range(5)], ["\n"]]
    return rng.choice(odd) if rng.random() < 0.2 else None


def _shape(rng: random.Random) -> Json:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    said = {"description": "d", "strict": rng.choice([True, False])}
    return {"schema": schema} | (said if rng.random() < 0.5 else {})


# -- told in Chat Completions and in Responses ----------------------------------------------------


def as_chat(told: Story) -> Json:
    said = told.settings
    body: Json = {"model": "m", "messages": [{"role": "system", "content": t} for t in told.system]}
    for role, parts in told.turns:
        body["messages"] += _chat_messages(role, parts)
    body |= _openai_settings(said)
    if told.tools:
        body["tools"] = [_openai_tool(tool, nested=True) for tool in told.tools]
    _forbid(told, said["top_k"], told.provided)
    body |= {
        "max_completion_tokens": said["max_tokens"],
        "stop": said["stop"],
        "reasoning_effort": said["effort"],
        "verbosity": said["verbosity"],
        "tool_choice": _openai_choice(told, nested=True),
    }
    if said["json"]:
        body["response_format"] = {"type": "json_object"}
    if said["schema"]:
        shape = {"name": "answer", **said["schema"]}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    if told.advisory:
        body |= {"metadata": {"a": "b"}, "user": "u", "store": True, "service_tier": "flex"}
    return _some(body)


def _chat_messages(role: str, parts: list[tuple[str, Any]]) -> list[Json]:
    results = [
        {"role": "tool", "tool_call_id": v["id"], "content": _chat_content(v["content"]) or ""}
        for kind, v in parts
        if kind == "result"
    ]
    calls = [_chat_call(value) for kind, value in parts if kind == "call"]
    thoughts = [value for kind, value in parts if kind == "thought"]
    rest = [part for part in parts if part[0] not in ("result", "call", "thought")]
    kinds = [kind for kind, _ in parts if kind in ("call", "text")]
    if kinds != sorted(kinds, reverse=True):
        raise Untold("words after a call")
    message: Json = {"role": role, "content": _chat_content(rest) or None}
    message |= {"tool_calls": calls} if calls else {}
    message |= {"reasoning_content": thoughts[0]} if thoughts else {}
    return results + ([message] if rest or calls or not results else [])


def _chat_call(call: Json) -> Json:
    if call["custom"]:
        return {"id": call["id"], "type": "custom", "custom": {"name": call["name"], "input": "x"}}
    function = {"name": call["name"], "arguments": _arguments(call)}
    return {"id": call["id"], "type": "function", "function": function}


def _arguments(call: Json) -> str:
    text = json.dumps(call["arguments"])
    return text[:-1] + " " if call["broken"] else text


def _chat_content(parts: list[tuple[str, Any]]) -> Any:
    if len(parts) == 1 and parts[0][0] == "text":
        return parts[0][1]
    return [_chat_part(kind, value) for kind, value in parts]


def _chat_part(kind: str, value: Any) -> Json:
    if kind == "text":
        return {"type": "text", "text": value}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": value}}
    if kind == "sound":
        return {"type": "input_audio", "input_audio": {"data": value, "format": "wav"}}
    url, name = value
    if not url.startswith("data:"):
        raise Untold("a document's URL")
    return {"type": "file", "file": _some({"file_data": url, "filename": name})}


def _openai_tool(tool: Json, *, nested: bool) -> Json:
    kind = "custom" if tool["custom"] else "function"
    said = _some({"name": tool["name"], "description": tool["description"]})
    if not tool["custom"]:
        said |= {"parameters": tool["schema"], "strict": tool["strict"]}
    return {"type": kind, kind: said} if nested else {"type": kind, **said}


def _openai_choice(told: Story, *, nested: bool) -> Any:
    choice = told.settings.get("choice")
    if choice in (None, "auto", "none"):
        return choice
    if choice == "any":
        return "required"
    kind = "custom" if told.tools[0]["custom"] else "function"
    return {"type": kind, kind: {"name": choice}} if nested else {"type": kind, "name": choice}


def _openai_settings(said: Json) -> Json:
    names = ("temperature", "top_p", "stream")
    body = {name: said[name] for name in names}
    body["parallel_tool_calls"] = said.get("parallel")
    return body | ({"frobnicate": 1} if said["unknown"] else {})


def as_responses(told: Story) -> Json:
    said = told.settings
    items = [{"role": "developer", "content": text} for text in told.system[1:]]
    for role, parts in told.turns:
        items += _items(role, parts)
    _forbid(told, said["top_k"], said["stop"])
    body: Json = {
        "model": "m",
        "instructions": told.system[0] if told.system else None,
        "input": items,
        "max_output_tokens": said["max_tokens"],
        "reasoning": said["effort"] and {"effort": said["effort"], "summary": "auto"},
        "store": said["store"],
        "tool_choice": _openai_choice(told, nested=False),
        **_openai_settings(said),
    }
    tools = [_openai_tool(tool, nested=False) for tool in told.tools]
    tools += [{"type": "web_search", "external_web_access": False}] if told.provided else []
    body |= {"tools": tools} if tools else {}
    shape: Json | None = {"type": "json_object"} if said["json"] else None
    if said["schema"]:
        shape = {"type": "json_schema", "name": "answer", **said["schema"]}
    if shape or said["verbosity"]:
        body["text"] = _some({"format": shape, "verbosity": said["verbosity"]})
    if told.advisory:
        body |= {"metadata": {"a": "b"}, "prompt_cache_key": "k", "include": ["x"]}
    return _some(body)


def _items(role: str, parts: list[tuple[str, Any]]) -> list[Json]:
    items: list[Json] = []
    for kind, value in parts:
        if kind == "thought":
            items.append({"type": "reasoning", "id": "rs_1", "summary": []})
        elif kind == "call" and value["custom"]:
            call = {"call_id": value["id"], "name": value["name"], "input": "x"}
            items.append({"type": "custom_tool_call", **call})
        elif kind == "call":
            call = {"call_id": value["id"], "name": value["name"], "arguments": _arguments(value)}
            items.append({"type": "function_call", "id": "fc_1", "status": "completed", **call})
        elif kind == "result":
            name = "custom_tool_call_output" if value["custom"] else "function_call_output"
            output = [_item_part(k, v, "user") for k, v in value["content"]]
            items.append({"type": name, "call_id": value["id"], "output": output or ""})
        else:
            part = _item_part(kind, value, role)
            items.append({"type": "message", "role": role, "content": [part]})
    return items


def _item_part(kind: str, value: Any, role: str) -> Json:
    if kind == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": value}
    if kind == "image":
        return {"type": "input_image", "image_url": value, "detail": "auto"}
    if kind == "sound":
        return {"type": "input_audio", "input_audio": {"data": value, "format": "wav"}}
    url, name = value
    where = "file_data" if url.startswith("data:") else "file_url"
    return _some({"type": "input_file", where: url, "filename": name})


# -- told in Messages -----------------------------------------------------------------------------


def as_messages(told: Story) -> Json:
    said = told.settings
    _forbid(told, said["verbosity"], said["json"], any(tool["custom"] for tool in told.tools))
    body: Json = {"model": "m", "max_tokens": said["max_tokens"] or 4096}
    if told.system:
        body["system"] = [{"type": "text", "text": text} for text in told.system]
        if told.advisory:
            body["system"][-1]["cache_control"] = {"type": "ephemeral"}
    body["messages"] = [
        {"role": role, "content": [_block(kind, value) for kind, value in parts]}
        for role, parts in told.turns
    ]
    tools: list[Json] = [
        _some({"name": tool["name"], "description": tool["description"]})
        | {"input_schema": tool["schema"], "strict": tool["strict"]}
        for tool in told.tools
    ]
    tools += [{"type": "web_search_20250305", "name": "web_search"}] if told.provided else []
    body |= {"tools": tools} if tools else {}
    body |= {name: said[name] for name in ("temperature", "top_p", "top_k", "stream")}
    body |= {"stop_sequences": said["stop"], "tool_choice": _messages_choice(told)}
    if said["schema"]:
        shape = {"type": "json_schema", "schema": said["schema"]["schema"]}
        body["output_config"] = {"format": shape}
    body |= _messages_effort(said, body.get("output_config") or {})
    body |= {"frobnicate": 1} if said["unknown"] else {}
    if told.advisory:
        body |= {"metadata": {"user_id": "u"}, "context_management": {"edits": [{}]}}
    return _some(body)


def _block(kind: str, value: Any) -> Json:
    if kind == "text":
        return {"type": "text", "text": value}
    if kind == "thought":
        return {"type": "thinking", "thinking": value, "signature": "s"}
    if kind == "call":
        if value["broken"]:
            raise Untold("arguments that are no object")
        names = {"id": value["id"], "name": value["name"]}
        return {"type": "tool_use", **names, "input": value["arguments"]}
    if kind == "result":
        content = [_block(k, v) for k, v in value["content"]]
        return {"type": "tool_result", "tool_use_id": value["id"], "content": content}
    if kind == "sound":
        raise Untold(kind)
    url, name = value if kind == "document" else (value, None)
    return _some({"type": kind, "source": _source(url), "title": name})


def _source(url: str) -> Json:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    media_type, mark, data = url.removeprefix("data:").partition(";base64,")
    if not mark:
        raise Untold("data that is not in base64")
    return {"type": "base64", "media_type": media_type, "data": data}


def _messages_choice(told: Story) -> Json | None:
    choice, parallel = told.settings.get("choice"), told.settings.get("parallel")
    if choice is None and parallel is None:
        return None
    kind = choice if choice in ("auto", "none", "any") else "tool" if choice else "auto"
    said = {"type": kind} | ({"name": choice} if kind == "tool" else {})
    if parallel is not None and kind != "none":
        said["disable_parallel_tool_use"] = not parallel
    return said


def _messages_effort(said: Json, config: Json) -> Json:
    effort = said["effort"]
    if effort is None:
        return {}
    if effort is Effort.NONE:
        return {"thinking": {"type": "disabled"}}
    if effort is Effort.MINIMAL:
        raise Untold(effort)
    if said["budget"]:
        return {"thinking": {"type": "enabled", "budget_tokens": BUDGETS[effort]}}
    return {"thinking": {"type": "adaptive"}, "output_config": config | {"effort": effort}}


def _forbid(told: Story, *values: Any) -> None:
    """Refuse to tell what the dialect has no field for."""
    if any(values):
        raise Untold(told)


def _some(body: Json) -> Json:
    return {name: value for name, value in body.items() if value is not None}


TELLERS: dict[Dialect, Callable[[Story], Json]] = {
    Dialect.CHAT: as_chat,
    Dialect.MESSAGES: as_messages,
    Dialect.RESPONSES: as_responses,
}


def manner(rng: random.Random) -> Manner:
    """Return how some endpoint is spoken to."""
    return Manner(
        output_tokens=rng.choice([64_000] * 9 + [None]),
        reasoning=rng.choice([None, *Reasoning]),
        drop=frozenset(rng.sample(["web_search", "store", "reasoning"], rng.randint(0, 3))),
    )


# -- bodies that are broken -----------------------------------------------------------------------

FREE = {
    "schema",
    "parameters",
    "input_schema",
    "input",
    "metadata",
    "context_management",
    "cache_control",
}
"""What holds whatever the client likes."""
UNREAD = {"web_search", "web_search_20250305", "thinking", "reasoning"}
"""Types of what is left out as a whole."""
LONG = "a secret of mine " * 100
ODD = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    "x",
    [],
    [None],
    {},
    {"type": "x"},
    [[]],
    [{}],
    "auto",
    LONG,
]


def judged(value: Any) -> list[Json]:
    """Return the objects of a body of which every key is judged."""
    if isinstance(value, list):
        return [found for each in value for found in judged(each)]
    if not isinstance(value, dict) or value.get("type") in UNREAD:
        return []
    inner = [
        judged(each) for name, each in value.items() if name not in FREE or isinstance(each, list)
    ]
    return [value, *(found for each in inner for found in each)]


def mutated(body: Json, rng: random.Random) -> Any:
    """Return a body of which something, anywhere, is of another type, gone, doubled or unknown."""
    value: Any = json.loads(json.dumps(body))
    for _ in range(rng.randint(1, 3)):
        holder, key = rng.choice(list(_places(value)) or [({}, "x")])
        drawn = rng.random()
        if drawn < 0.5:
            holder[key] = deepcopy(rng.choice(ODD))
        elif drawn < 0.7:
            del holder[key]
        elif drawn < 0.85 and isinstance(holder, list):
            holder.insert(0, deepcopy(holder[key]))
        elif isinstance(holder, dict):
            holder[rng.choice([*NAMES, "x", LONG])] = deepcopy(rng.choice([*ODD, holder[key]]))
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each holder in a body, with each key or index of it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(pairs):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


NAMES = ["type", "role", "content", "name", "id", "text", "input", "source", "format", "effort"]


# -- what must be equal ---------------------------------------------------------------------------


def normal(prompt: Prompt, to: Dialect, how: Manner, left_out: frozenset[str]) -> Prompt:
    """Return a prompt as it comes back from a dialect, but for what was left out, by name."""
    blank = BLANK_TEXT in left_out
    prompt = replace(
        prompt,
        system=tuple(text for text in prompt.system if text.strip() or not blank),
        turns=tuple(_normal_turn(turn, to, blank=blank) for turn in _spoken(prompt.turns, blank)),
        provider_tools=(),
        choice=_normal_choice(prompt),
        parallel=_normal_parallel(prompt),
        effort=_normal_effort(prompt, to, how, left_out),
        schema=_normal_schema(prompt.schema, to),
        thinking_tokens=None,
        shows_thinking=False,
        is_kept=False,
        left_out=frozenset(),
    )
    if to is Dialect.MESSAGES:
        limit = prompt.max_tokens or how.output_tokens
        return replace(prompt, max_tokens=limit, verbosity=None)
    return prompt


def _spoken(turns: tuple[Talk, ...], blank: bool) -> list[Talk]:
    """Turns without answers that said nothing, where such text is left out."""
    kept: list[Talk] = []
    for turn in turns:
        nothing = all(isinstance(p, Text) and not p.text.strip() for p in turn.parts)
        if kept and kept[-1].role is turn.role:
            kept[-1] = Talk(turn.role, kept[-1].parts + turn.parts)
        elif not (blank and nothing and turn.role is TurnRole.ASSISTANT):
            kept.append(turn)
    return kept


def _normal_turn(turn: Talk, to: Dialect, *, blank: bool) -> Talk:
    parts = _normal_parts(turn.parts, to, blank=blank)
    if to is Dialect.CHAT and turn.role is TurnRole.ASSISTANT:  # there words stand before calls
        parts = tuple(sorted(parts, key=lambda part: isinstance(part, ToolUse)))
    return Talk(turn.role, parts)


def _normal_parts(parts: tuple[Part, ...], to: Dialect, *, blank: bool) -> tuple[Part, ...]:
    kept = tuple(p for p in parts if not (blank and isinstance(p, Text) and not p.text.strip()))
    return tuple(_normal_part(part, to, blank=blank) for part in kept or parts[:1])


def _normal_part(part: Part, to: Dialect, *, blank: bool) -> Part:
    if isinstance(part, ToolUse) and not part.is_custom:
        try:
            found = json.dumps(json.loads(part.arguments), sort_keys=True)
        except ValueError:
            found = json.dumps({"INVALID_JSON": part.arguments})
        return replace(part, arguments=found)
    if isinstance(part, ToolResult):
        return replace(part, content=_normal_parts(part.content, to, blank=blank))
    if isinstance(part, Document) and to is Dialect.CHAT and not part.name:
        return replace(part, name="document.pdf")
    return part


def _normal_choice(prompt: Prompt) -> ToolChoice | None:
    choice = prompt.choice
    is_default = choice is None or choice.choosing is Choosing.AUTO
    return None if is_default or not prompt.tools else choice


def _normal_parallel(prompt: Prompt) -> bool | None:
    none = prompt.choice is not None and prompt.choice.choosing is Choosing.NONE
    return None if none or not prompt.tools else prompt.parallel


def _normal_effort(
    prompt: Prompt, to: Dialect, how: Manner, left_out: frozenset[str]
) -> Effort | None:
    silent = prompt.effort is Effort.NONE and how.reasoning in (None, Reasoning.NEVER)
    unsaid = to is Dialect.CHAT and how.reasoning is not Reasoning.EFFORT
    if "reasoning" in left_out or silent or unsaid:
        return None
    is_least = prompt.effort is Effort.MINIMAL and to is Dialect.MESSAGES
    return Effort.LOW if is_least else prompt.effort


def _normal_schema(schema: Schema | None, to: Dialect) -> Schema | None:
    if schema is None or to is Dialect.CHAT:
        return schema and replace(schema, name=schema.name or "answer")
    return Schema(schema.schema)


def is_closed(written: Written) -> bool:
    """Return whether all that is left out is of the documented table, or was let go by name."""
    return all(name in CLOSED or name.startswith("tools.") for name in written.left_out)
