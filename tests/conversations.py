"""Conversations of several clients' shapes, and the labels that must come out: all of them.

Each is a list of calls in time order. A call's expected labels are written as
`(number of the call that is labelled, source, value)`; an empty list is as much a promise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from telemetry.events import Source as S

Json = dict[str, Any]
Label = tuple[int, S, float | None]


@dataclass(frozen=True)
class Turn:
    """One call of a conversation."""

    request: Json
    answer: Json | str  # a string is the text of a stream
    labels: list[Label] = field(default_factory=list)
    at_s: float = 0.0
    took_s: float = 2.0
    unit: str = "ann"
    app: str = "app"
    answered: bool = True
    stateless: bool = False
    session: bool = False  # the unit is a declared session
    dialect: str = "chat"


def user(text: Any) -> Json:
    return {"role": "user", "content": text}


def said(text: Any, **more: Any) -> Json:
    return {"role": "assistant", "content": text, **more}


def system(text: str = "You are helpful.") -> Json:
    return {"role": "system", "content": text}


def tool(id_: str, text: Any, **more: Any) -> Json:
    return {"role": "tool", "tool_call_id": id_, "content": text, **more}


def ask(*messages: Json, **more: Any) -> Json:
    return {"model": "auto", "messages": list(messages), **more}


def call(name: str, arguments: Any, id_: str = "call_Zk3vQ9xTn2Lw8aYb") -> Json:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": text}}


def reply(
    text: Any = None, *, finish: str = "stop", usage: Json | None = None, **more: Any
) -> Json:
    message = {"role": "assistant", "content": text, "refusal": None, **more}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": usage}


def calls(*made: Json, text: Any = None, finish: str = "tool_calls") -> Json:
    return reply(text, finish=finish, tool_calls=list(made))


def choices(*answers: Json) -> Json:
    found = [a["choices"][0] | {"index": i} for i, a in enumerate(answers)]
    return {"id": "chatcmpl-n", "choices": found}


def sse(*parts: Any, newline: str = "\n", finish: str | None = "stop", done: bool = True) -> str:
    """A stream: a dict with `choices` is a whole chunk, any other dict a delta, a str content."""
    chunks = [{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}]
    for part in parts:
        delta = {"content": part} if isinstance(part, str) else part
        whole = isinstance(part, dict) and "choices" in part
        chunks.append(part if whole else {"choices": [{"index": 0, "delta": delta}]})
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    events = [f"data: {json.dumps({'id': 'c', **chunk})}{newline * 2}" for chunk in chunks]
    return "".join(events) + (f"data: [DONE]{newline * 2}" if done else "")


def function(name: str, properties: Json, required: list[str] | None = None) -> Json:
    parameters = {"type": "object", "properties": properties, "required": required or []}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = function("get_weather", {"city": {"type": "string"}}, ["city"])
READ = function("read_file", {"path": {"type": "string"}}, ["path"])
SHELL = function("shell", {"command": {"type": "string"}}, ["command"])
SEARCH_LOGS = function("search_logs", {"query": {"type": "string"}}, ["query"])
STEPS = {
    "type": "object",
    "properties": {
        "steps": {"type": "array", "items": {"$ref": "#/$defs/step"}},
        "answer": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "kind": {"enum": ["easy", "hard"]},
    },
    "required": ["steps", "answer", "kind"],
    "additionalProperties": False,
    "$defs": {"step": {"type": "object", "properties": {"text": {"type": "string"}}}},
}
STEPS_FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "steps", "strict": True, "schema": STEPS},
}
GOOD_STEPS = json.dumps({"steps": [{"text": "add"}], "answer": 4, "kind": "easy"})
AGENT = system("You are a coding agent. " + "Follow the rules of the repository. " * 400)
Q = user("Please explain how the garbage collector of Python finds cycles")
Q_EDITED = user("Please explain briefly how the garbage collector of CPython finds cycles")
A = "It looks for groups of objects that only refer to each other."
LONG = "and so on " * 300


def weather(id_: str = "call_Zk3vQ9xTn2Lw8aYb", city: str = "Paris") -> Json:
    return call("get_weather", {"city": city}, id_)


def after_tool(result: Any, *, made: Json | None = None, **more: Any) -> Json:
    """The turn that follows a tool call."""
    made = made or weather()
    history = said(None, tool_calls=[made])
    return ask(system(), Q, history, tool(made["id"], result), tools=[WEATHER], **more)


ASKS_WEATHER = ask(system(), Q, tools=[WEATHER])
GOOD_CALL = [(0, S.TOOL_CALL, 1.0)]
PICTURE = user([{"type": "image_url", "image_url": {"url": "https://a"}}])
PICTURE_MARKED = user(
    [
        {
            "type": "image_url",
            "image_url": {"url": "https://a", "detail": None},
            "cache_control": {"type": "ephemeral"},
        }
    ]
)
TWO_TURNS = (system(), user("hello there my friend"), said("Hello!"), Q)
FIRST = Turn(ask(*TWO_TURNS[:2]), reply("Hello!"), at_s=-30, unit="")
FIRST_OF_ANN = replace(FIRST, unit="ann")
TICKET = user("My order of last week has not arrived yet, what can I do about it?")
SIMILAR_TICKET = user("My order of last month has not arrived yet, what can I do about it?")


def translated(word: str) -> Json:
    """A template filled in, after a greeting."""
    return ask(*TWO_TURNS[:3], user(f"Translate into plain French please: {word}"))


def greeted(last: Json) -> Json:
    """The second turn of a conversation that began with a greeting."""
    return ask(system(), user("hi"), said("Hello!"), last)


def failed_tool(result: Any, *, is_error: bool) -> list[Turn]:
    labels: list[Label] = [(0, S.TOOL_RESULT, 0.0)] if is_error else []
    return [
        Turn(ASKS_WEATHER, calls(weather()), GOOD_CALL),
        Turn(after_tool(result), reply("I see."), labels, at_s=5),
    ]


def one(
    request: Json, answer: Json | str, source: S | None = None, value: float = 0.0
) -> list[Turn]:
    return [Turn(request, answer, [(0, source, value)] if source else [])]


def agent_loop(results: list[str], *, between: Json | None = None) -> Json:
    """A coding agent that has made the same call twice already."""
    history: list[Json] = [AGENT, user("fix the failing test")]
    for i, result in enumerate(results):
        id_ = f"toolu_0123456789abcde{i}"
        history += [said("", tool_calls=[call("shell", {"command": "pytest"}, id_)])]
        history += [tool(id_, result)]
        if between and i == 0:
            history.append(between)
    return ask(*history, tools=[READ, SHELL])


LOOPING = calls(call("shell", '{ "command" : "pytest" }', "toolu_0123456789abcdez"))


def form(schema: Json) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def allowed(mode: str, name: str) -> Json:
    tools = [{"type": "function", "function": {"name": name}}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


CONVERSATIONS: dict[str, list[Turn]] = {
    # What an answer shows by itself.
    "openai sdk: a plain answer": one(ask(Q), reply(A)),
    "a plain answer, streamed": one(ask(Q, stream=True), sse(*A.split(" "))),
    "no text at all": one(ask(Q), reply(""), S.EMPTY),
    "nothing but white space, streamed": one(ask(Q), sse(" ", "\n"), S.EMPTY),
    "content null": one(ask(Q), reply(None), S.EMPTY),
    "vllm: the answer was lost in the reasoning": one(
        ask(Q), reply(None, reasoning_content="thinking"), S.EMPTY
    ),
    "spoken answer": one(ask(Q), reply(None, audio={"id": "a", "data": "UklGRg=="})),
    "code completion with nothing to add": one(ask(Q, stop=["\n"]), reply("")),
    "refusal field": one(ask(Q), reply(None, refusal="I can't help with that."), S.REFUSED),
    "refusal streamed": one(ask(Q), sse({"refusal": "I can"}, {"refusal": "not."}), S.REFUSED),
    "words of refusal are only words": one(ask(Q), reply("I'm sorry, I can't help with that.")),
    "azure: filtered": one(
        ask(Q),
        sse(
            {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            "Well",
            finish="content_filter",
        ),
        S.FILTERED,
    ),
    "azure: prompt_filter_results chunk": one(
        ask(Q),
        sse({"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}, A, newline="\r\n"),
    ),
    "truncated": one(ask(Q, max_tokens=500), reply(LONG, finish="length"), S.TRUNCATED),
    "truncated without a limit, streamed": one(ask(Q), sse(LONG, finish="length"), S.TRUNCATED),
    "yes or no": one(ask(Q, max_tokens=1, logprobs=True), reply("Yes", finish="length")),
    "a class of five tokens": one(
        ask(Q, max_completion_tokens=5), reply("category", finish="length")
    ),
    "code completion, cut on purpose": one(
        ask(Q, max_tokens=64, stop=["\n\n"]), reply("for x in", finish="length")
    ),
    "long, in pieces on purpose": one(
        ask(Q, said("Chapter one."), max_tokens=900), reply(LONG, finish="length")
    ),
    "deepseek: reasoned to the limit": one(
        ask(Q, max_tokens=2000),
        sse({"reasoning_content": "Hmm, "}, {"reasoning_content": "so"}, finish="length"),
        S.REASONING_LIMIT,
    ),
    "openai: reasoned to the limit": one(
        ask(Q, max_completion_tokens=1000),
        reply(
            "",
            finish="length",
            usage={"completion_tokens_details": {"reasoning_tokens": 1000}},
        ),
        S.REASONING_LIMIT,
    ),
    "deepseek: reasoning, then an answer": one(
        ask(Q), sse({"reasoning_content": "Hmm", "content": None}, A)
    ),
    "mistral: content in parts": one(
        ask(Q),
        reply([{"type": "thinking", "thinking": []}, {"type": "text", "text": A}]),
    ),
    "provider broke off": one(ask(Q), reply("It lo", finish="error")),
    "error body with status 200": one(ask(Q), {"error": {"message": "overloaded"}}),
    "not answered": [Turn(ask(Q), "", answered=False)],
    "provider broke off in an object": one(
        ask(Q, response_format={"type": "json_object"}), reply('{"a', finish="error")
    ),
    "stream that turned into an error": one(
        ask(Q), sse({"choices": [], "error": {"message": "overloaded"}}, finish="stop")
    ),
    "filtered, with other line ends": one(
        ask(Q), sse("Well", newline="\r\n", finish="content_filter"), S.FILTERED
    ),
    # Schemas.
    "schema met": one(ask(Q, response_format=STEPS_FORMAT), reply(GOOD_STEPS), S.SCHEMA, 1.0),
    "schema met, streamed": one(
        ask(Q, response_format=STEPS_FORMAT),
        sse(GOOD_STEPS[:9], GOOD_STEPS[9:30], GOOD_STEPS[30:]),
        S.SCHEMA,
        1.0,
    ),
    "schema missed": one(
        ask(Q, response_format=STEPS_FORMAT),
        reply(GOOD_STEPS.replace("easy", "medium")),
        S.SCHEMA,
    ),
    "schema: no JSON": one(
        ask(Q, response_format=STEPS_FORMAT), reply(f"```json\n{GOOD_STEPS}\n```"), S.SCHEMA
    ),
    "schema that points elsewhere": one(
        ask(
            Q,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"$ref": "http://127.0.0.1:9/x.json"}},
            },
        ),
        reply("{}"),
    ),
    "json object": one(
        ask(Q, response_format={"type": "json_object"}), reply('{"a": 1}'), S.SCHEMA, 1.0
    ),
    "json object: a list": one(
        ask(Q, response_format={"type": "json_object"}), reply("[1]"), S.SCHEMA
    ),
    "schema left out: no JSON": one(
        ask(Q, response_format={"type": "json_schema"}), reply("It is four."), S.SCHEMA
    ),
    "schema left out: some JSON": one(ask(Q, response_format={"type": "json_schema"}), reply("4")),
    "text format": one(ask(Q, response_format={"type": "text"}), reply(A)),
    # Tool calls.
    "tool call, content empty": one(ASKS_WEATHER, calls(weather(), text=""), S.TOOL_CALL, 1.0),
    "tool call of finish stop": one(
        ASKS_WEATHER, calls(weather(), finish="stop"), S.TOOL_CALL, 1.0
    ),
    "tool unknown": one(ASKS_WEATHER, calls(call("weather", {"city": "Rome"})), S.TOOL_CALL),
    "tool arguments no JSON": one(
        ASKS_WEATHER, calls(call("get_weather", '{"city": "Rome"')), S.TOOL_CALL
    ),
    "tool arguments missing": one(ASKS_WEATHER, calls(call("get_weather", "")), S.TOOL_CALL),
    "tool arguments of the wrong type": one(
        ASKS_WEATHER, calls(call("get_weather", {"city": ["Rome"]})), S.TOOL_CALL
    ),
    "tool without parameters, arguments left out": one(
        ask(Q, tools=[{"type": "function", "function": {"name": "now"}}]),
        calls(call("now", "")),
        S.TOOL_CALL,
        1.0,
    ),
    "parallel tool calls": one(
        ASKS_WEATHER, calls(weather(), weather("call_two2two2two2", "Rome")), S.TOOL_CALL, 1.0
    ),
    "one of the parallel tool calls is bad": one(
        ASKS_WEATHER, calls(weather(), call("get_weather", {"town": "Rome"})), S.TOOL_CALL
    ),
    "parallel identical tool calls": one(
        ASKS_WEATHER,
        calls(weather(), weather("call_two2two2two2"), weather("call_three3three3")),
        S.TOOL_CALL,
        1.0,
    ),
    "tool call streamed": one(
        ASKS_WEATHER,
        sse(
            {"tool_calls": [{"index": 0, **call("get_weather", "")}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": '{"ci'}}]},
            {"tool_calls": [{"index": 1, **call("get_weather", "", "call_two2two2two2")}]},
            {"tool_calls": [{"index": 0, "function": {"arguments": 'ty":"Rome"}'}}]},
            {"tool_calls": [{"index": 1, "function": {"arguments": '{"city":"Bonn"}'}}]},
            finish="tool_calls",
        ),
        S.TOOL_CALL,
        1.0,
    ),
    "gemini: tool calls streamed whole, all at index 0": one(
        ASKS_WEATHER,
        sse(
            {"tool_calls": [{"index": 0, **weather()}]},
            {"tool_calls": [{"index": 0, **weather("call_two2two2two2", "Rome")}]},
        ),
        S.TOOL_CALL,
        1.0,
    ),
    "pieces of a tool call without an index": one(
        ASKS_WEATHER,
        sse(
            {"tool_calls": [call("get_weather", '{"city"')]},
            {"tool_calls": [{"function": {"arguments": ':"Rome"}'}}]},
        ),
        S.TOOL_CALL,
        1.0,
    ),
    "ollama: arguments as an object": one(
        ASKS_WEATHER,
        calls({"id": "x", "function": {"name": "get_weather", "arguments": {"city": "Rome"}}}),
        S.TOOL_CALL,
        1.0,
    ),
    "litellm: nulls everywhere": one(
        ask(Q, tools=[WEATHER], functions=None, tool_choice=None, response_format=None, n=None),
        reply(A, tool_calls=None, function_call=None, provider_specific_fields={"x": None}),
    ),
    "required tool not called": one(
        ask(Q, tools=[WEATHER], tool_choice="required"), reply("It rains."), S.TOOL_CALL
    ),
    "named tool called, finish stop": one(
        ask(Q, tools=[WEATHER, READ], tool_choice={"function": {"name": "get_weather"}}),
        calls(weather(), finish="stop"),
        S.TOOL_CALL,
        1.0,
    ),
    "another tool than the named one": one(
        ask(Q, tools=[WEATHER, READ], tool_choice={"function": {"name": "read_file"}}),
        calls(weather()),
        S.TOOL_CALL,
    ),
    "legacy: another function than the named one": one(
        ask(Q, functions=[WEATHER["function"]], function_call={"name": "get_weather"}),
        reply("It rains."),
        S.TOOL_CALL,
    ),
    "allowed tools, none needed": one(
        ask(Q, tools=[WEATHER, READ], tool_choice=allowed("auto", "read_file")), reply("Hm?")
    ),
    "allowed tools, another one called": one(
        ask(Q, tools=[WEATHER, READ], tool_choice=allowed("required", "read_file")),
        calls(weather()),
        S.TOOL_CALL,
    ),
    "a tool was forbidden": one(
        ask(Q, tools=[WEATHER], tool_choice="none"), calls(weather()), S.TOOL_CALL
    ),
    "tool arguments no object": one(
        ask(Q, tools=[{"function": {"name": "now"}}]), calls(call("now", "[1]")), S.TOOL_CALL
    ),
    "tool left alone, as it may be": one(ASKS_WEATHER, reply("Where are you?")),
    "legacy function call": one(
        ask(Q, functions=[WEATHER["function"]]),
        reply(
            None,
            finish="function_call",
            function_call={"name": "get_weather", "arguments": '{"city": 3}'},
        ),
        S.TOOL_CALL,
    ),
    "custom tool: its input is free text": one(
        ask(Q, tools=[{"type": "custom", "custom": {"name": "sql"}}]),
        calls({"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT"}}),
    ),
    "a provider's own tool": one(
        ask(Q, tools=[{"type": "web_search"}]), calls(call("web_search", {"q": "x"}))
    ),
    "tool schema that does not compile": one(
        ask(Q, tools=[function("f", {"a": {"type": "strin"}})]), calls(call("f", {"a": 1}))
    ),
    "openapi: nullable": one(
        ask(Q, tools=[function("f", {"a": {"type": "string", "nullable": True}})]),
        calls(call("f", {"a": None})),
    ),
    # Several choices.
    "n: one of two is empty": one(ask(Q, n=2), choices(reply(A), reply(""))),
    "n: all are empty": one(ask(Q, n=2), choices(reply(""), reply(None)), S.EMPTY),
    "n: all meet the schema": one(
        ask(Q, n=2, response_format=STEPS_FORMAT),
        choices(reply(GOOD_STEPS), reply(GOOD_STEPS)),
        S.SCHEMA,
        1.0,
    ),
    "n: one misses the schema": one(
        ask(Q, n=2, response_format=STEPS_FORMAT), choices(reply(GOOD_STEPS), reply("{}"))
    ),
    # Loops.
    "agent: the same call a third time": one(agent_loop(["1 failed", "1 failed"]), LOOPING, S.LOOP),
    "agent: a second time": one(agent_loop(["1 failed"]), LOOPING, S.TOOL_CALL, 1.0),
    "agent: the result changed in between": one(
        agent_loop(["2 failed", "1 failed"]), LOOPING, S.TOOL_CALL, 1.0
    ),
    "agent: the user asked for it": one(
        agent_loop(["1 failed", "1 failed"], between=user("run it again")),
        LOOPING,
        S.TOOL_CALL,
        1.0,
    ),
    # What tools say.
    "tool: text that begins with Error": failed_tool("Error: no such city", is_error=True),
    "tool: langchain": failed_tool(
        "Error invoking tool 'get_weather' with kwargs {'city': 'Paris'} with error:\n timeout",
        is_error=True,
    ),
    "tool: traceback": failed_tool(
        "Traceback (most recent call last):\n  File 'w.py', line 1\nKeyError: 'Paris'",
        is_error=True,
    ),
    "tool: error object": failed_tool('{"error": "no such city", "status": 404}', is_error=True),
    "tool: error object of an API": failed_tool(
        '{"error": {"code": 404, "message": "no such city"}}', is_error=True
    ),
    "tool: error true": failed_tool('{"error": true, "message": "no"}', is_error=True),
    "tool: status error": failed_tool('{"status": "error", "detail": "no"}', is_error=True),
    "tool: errors by kind": failed_tool('{"error": {"timeout": 3, "refused": 1}}', is_error=False),
    "tool: mcp isError": failed_tool(
        '{"content": [{"type": "text", "text": "no"}], "isError": true}', is_error=True
    ),
    "tool: success false": failed_tool('{"success": false, "message": "no"}', is_error=True),
    "vercel: parts": failed_tool([{"type": "text", "text": "Error: no such city"}], is_error=True),
    "tool: error null": failed_tool('{"error": null, "temperature": 20}', is_error=False),
    "tool: counts of errors": failed_tool('{"error": 31, "warning": 4}', is_error=False),
    "tool: a log row": failed_tool(
        '{"at": "12:03", "service": "pay", "error": "timeout"}', is_error=False
    ),
    "tool: a list of failures": failed_tool(
        '[{"success": false}, {"error": "timeout"}]', is_error=False
    ),
    "tool: several error lines are what was looked for": failed_tool(
        "Error: timeout at 12:03\nError: timeout at 12:04", is_error=False
    ),
    "tool: logs that mention Error": failed_tool(
        "12:03 Error: timeout\n12:04 ERROR: gone", is_error=False
    ),
    "tool: error rate": failed_tool("Error rate of the service: 3 %", is_error=False),
    "tool: a text about errors": failed_tool(
        "Error handling in Rust: use Result and the ? operator.", is_error=False
    ),
    "tool: guidelines for reports": failed_tool(
        "Error reporting guidelines for the support team", is_error=False
    ),
    "tool: success with an empty error": failed_tool(
        '{"success": true, "error": {"code": 0, "message": ""}}', is_error=False
    ),
    "tool: ok with a word for none": failed_tool('{"ok": true, "error": "none"}', is_error=False),
    "tool: an error without a word": failed_tool(
        '{"is_error": false, "error": {"message": null}}', is_error=False
    ),
    "tool: nothing in the error": failed_tool(
        '{"error": {"message": "", "code": null}}', is_error=False
    ),
    "tool: None as text": failed_tool('{"error": "None"}', is_error=False),
    "tool: fails by its own word": failed_tool(
        '{"ok": false, "error": "no such city"}', is_error=True
    ),
    "tool: Error reading": failed_tool("Error reading file: no such file", is_error=True),
    "tool: a result about no errors": failed_tool("0 errors, 3 passed", is_error=False),
    "langchain: the history re-serialised": [
        Turn(ASKS_WEATHER, calls(weather()), GOOD_CALL),
        Turn(
            {
                "tools": [WEATHER],
                "messages": [
                    {"content": "You are helpful.", "role": "system", "name": None},
                    {"content": [{"text": Q["content"], "type": "text"}], "role": "user"},
                    {
                        "tool_calls": [call("get_weather", '{"city":"Paris"}')],
                        "content": "",
                        "role": "assistant",
                        "refusal": None,
                    },
                    {"content": "Error: gone", **{"role": "tool"}}
                    | {"tool_call_id": weather()["id"], "name": "get_weather"},
                ],
                "model": "auto",
            },
            reply("Sorry."),
            [(0, S.TOOL_RESULT, 0.0)],
            at_s=9,
        ),
    ],
    "short ids mean something in their conversation only": [
        Turn(ASKS_WEATHER, calls(weather("call_0")), GOOD_CALL),
        Turn(
            ask(user("Rain in Paris?"), tools=[WEATHER]),
            calls(weather("call_0")),
            [(1, S.TOOL_CALL, 1.0)],
            at_s=4,
            unit="bob",
        ),
        Turn(
            after_tool("Error: gone", made=weather("call_0")),
            reply("Sorry."),
            [(0, S.TOOL_RESULT, 0.0)],
            at_s=9,
        ),
    ],
    "short ids of two calls alike: nobody knows which one failed": [
        Turn(ASKS_WEATHER, calls(weather("call_0")), GOOD_CALL),
        Turn(
            ASKS_WEATHER | {"temperature": 0.9},
            calls(weather("call_0")),
            [(1, S.TOOL_CALL, 1.0)],
            at_s=4,
        ),
        Turn(after_tool("Error: gone", made=weather("call_0")), reply("Sorry."), at_s=9),
    ],
    "a late tool error hits the decision that made the call": [
        Turn(ASKS_WEATHER, calls(weather(), weather("call_two2two2two2", "Rome")), GOOD_CALL),
        Turn(
            ask(
                system(),
                Q,
                said(None, tool_calls=[weather(), weather("call_two2two2two2", "Rome")]),
                tool(weather()["id"], "sunny"),
                tools=[WEATHER],
            ),
            calls(weather("call_six6six6six6", "Bonn")),
            [(1, S.TOOL_CALL, 1.0)],
            at_s=5,
        ),
        Turn(
            ask(
                system(),
                Q,
                said(None, tool_calls=[weather(), weather("call_two2two2two2", "Rome")]),
                tool(weather()["id"], "sunny"),
                tool("call_two2two2two2", "Error: timeout"),
                said(None, tool_calls=[weather("call_six6six6six6", "Bonn")]),
                tool("call_six6six6six6", "rain"),
                tools=[WEATHER],
            ),
            reply("Rain in Bonn."),
            [(0, S.TOOL_RESULT, 0.0)],
            at_s=15,
        ),
    ],
    "a tool error of another app's call": [
        Turn(ASKS_WEATHER, calls(weather()), GOOD_CALL),
        Turn(after_tool("Error: gone"), reply("Sorry."), at_s=5, app="other"),
    ],
    # Asked again.
    "chat: regenerated": [
        Turn(ask(system(), Q), sse(A), session=True),
        Turn(ask(system(), Q), sse(A), [(0, S.REGENERATED, 0.0)], at_s=20, session=True),
    ],
    "chat: regenerated in a later turn": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), sse(A)),
        Turn(ask(*TWO_TURNS), sse(A), [(1, S.REGENERATED, 0.0)], at_s=20),
    ],
    "regenerated, in other words of JSON": [
        Turn(ask(system(), Q), reply(A)),
        Turn(
            ask(
                system() | {"name": None},
                user([{"type": "text", "text": Q["content"], "cache_control": {"type": "x"}}]),
            ),
            reply(A),
            [(0, S.REGENERATED, 0.0)],
            at_s=20,
            session=True,
        ),
    ],
    "regenerated: other spaces, marks, and the newer role": [
        Turn(ask(system(), PICTURE), reply(A)),
        Turn(
            ask(system("You are helpful.\n") | {"role": "developer"}, PICTURE_MARKED),
            reply(A),
            [(0, S.REGENERATED, 0.0)],
            at_s=20,
            session=True,
        ),
    ],
    "another picture": [
        Turn(ask(PICTURE), reply(A)),
        Turn(
            ask(user([{"type": "image_url", "image_url": {"url": "https://b"}}])),
            reply(A),
            at_s=20,
        ),
    ],
    "asked again after the answer was used": [
        Turn(ask(system(), Q), reply(A)),
        Turn(ask(system(), Q, said(A), user("And in Java?")), reply(A), at_s=20),
        Turn(ask(system(), Q), reply(A), at_s=60),
    ],
    "regenerated though the schema was met": [
        Turn(ask(Q, response_format=STEPS_FORMAT), reply(GOOD_STEPS), [(0, S.SCHEMA, 1.0)]),
        Turn(
            ask(Q, response_format=STEPS_FORMAT),
            reply(GOOD_STEPS),
            [(0, S.REGENERATED, 0.0), (1, S.SCHEMA, 1.0)],
            at_s=20,
            session=True,
        ),
    ],
    "bad stays bad": [
        Turn(ask(Q), reply(""), [(0, S.EMPTY, 0.0)]),
        Turn(ask(Q), reply(A), at_s=20),
    ],
    "no unit, second turn of a seen conversation": [
        FIRST,
        Turn(ask(*TWO_TURNS), reply(A), unit=""),
        Turn(ask(*TWO_TURNS), reply(A), [(1, S.REGENERATED, 0.0)], at_s=20, unit=""),
    ],
    "no unit: few-shot examples are no conversation": [
        Turn(ask(*TWO_TURNS), reply(A), unit=""),
        Turn(ask(*TWO_TURNS), reply(A), at_s=20, unit=""),
    ],
    "same prompt by two users": [
        Turn(ask(system(), Q), reply(A), unit="ann"),
        Turn(ask(system(), Q), reply(A), at_s=20, unit="bob"),
    ],
    "same prompt by nobody in particular": [
        Turn(ask(system(), Q), reply(A), unit=""),
        Turn(ask(system(), Q), reply(A), at_s=20, unit=""),
    ],
    "asked again after eleven minutes": [
        Turn(ask(Q), reply(A)),
        Turn(ask(Q), reply(A), at_s=662 + 2),
    ],
    "stateless app": [
        Turn(ask(Q), reply(A), stateless=True),
        Turn(ask(Q), reply(A), at_s=20, stateless=True),
    ],
    "samples: seeds": [
        Turn(ask(Q, seed=1), reply(A)),
        Turn(ask(Q, seed=2), reply(A), at_s=20),
    ],
    "samples: temperatures": [
        Turn(ask(Q, temperature=0.2), reply(A)),
        Turn(ask(Q, temperature=0.9), reply(A), at_s=20),
    ],
    "samples: hot": [
        Turn(ask(Q, temperature=1.3), reply(A)),
        Turn(ask(Q, temperature=1.3), reply(A), at_s=20),
    ],
    "samples: n": [
        Turn(ask(Q, n=2), choices(reply(A), reply(A))),
        Turn(ask(Q, n=2), choices(reply(A), reply(A)), at_s=20),
    ],
    "evaluator: one prompt, several models": [
        Turn(ask(Q) | {"model": "gpt"}, reply(A)),
        Turn(ask(Q) | {"model": "claude"}, reply(A), at_s=3),
    ],
    "extraction: one document, two schemas": [
        Turn(ask(Q, response_format=STEPS_FORMAT), reply(GOOD_STEPS), [(0, S.SCHEMA, 1.0)]),
        Turn(
            ask(Q, response_format={"type": "json_object"}),
            reply("{}"),
            [(1, S.SCHEMA, 1.0)],
            at_s=20,
        ),
    ],
    "extraction: another schema of the same form": [
        Turn(ask(Q, response_format=form({"type": "object"})), reply("{}"), [(0, S.SCHEMA, 1.0)]),
        Turn(
            ask(Q, response_format=form({"type": ["object"]})),
            reply("{}"),
            [(1, S.SCHEMA, 1.0)],
            at_s=20,
        ),
    ],
    "planner and responder: other functions": [
        Turn(ask(Q, functions=[{"name": "plan"}]), reply(A)),
        Turn(ask(Q, functions=[{"name": "respond"}]), reply(A), at_s=20),
    ],
    "planner and responder: another choice of tool": [
        Turn(ask(Q, tools=[WEATHER], tool_choice="auto"), reply(A)),
        Turn(ask(Q, tools=[WEATHER], tool_choice="none"), reply(A), at_s=20),
    ],
    "parallel identical calls": [
        Turn(ask(Q), reply(A), at_s=0.0),
        Turn(ask(Q), reply(A), at_s=0.1),
        Turn(ask(Q), reply(A), at_s=9.0),
    ],
    "asked again by a user: another conversation may begin alike": [
        Turn(ask(system(), Q), sse(A)),
        Turn(ask(system(), Q), sse(A), at_s=20),
    ],
    "health check of a declared user": [Turn(ask(Q), reply(A), at_s=60.0 * i) for i in range(5)],
    "health check in a session: taken back once it is known": [
        Turn(ask(Q), reply(A), at_s=0, session=True),
        Turn(ask(Q), reply(A), [(0, S.REGENERATED, 0.0)], at_s=60, session=True),
        Turn(ask(Q), reply(A), [(0, S.REGENERATED, None)], at_s=120, session=True),
        Turn(ask(Q), reply(A), at_s=180, session=True),
    ],
    "asked again four times in a conversation: a program": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), reply(A), at_s=0),
        Turn(ask(*TWO_TURNS), reply(A), [(1, S.REGENERATED, 0.0)], at_s=60),
        Turn(ask(*TWO_TURNS), reply(A), [(2, S.REGENERATED, 0.0)], at_s=120),
        Turn(
            ask(*TWO_TURNS),
            reply(A),
            [(1, S.REGENERATED, None), (2, S.REGENERATED, None)],
            at_s=180,
        ),
        Turn(ask(*TWO_TURNS), reply(A), at_s=240),
    ],
    "a job that asks twice, and again half an hour later": [
        Turn(ask(system(), Q), reply(A), at_s=t) for t in (0, 300, 2000, 2300)
    ],
    "samples: one after the other": [
        Turn(ask(system(), Q, temperature=0.7), reply(A), at_s=2.1 * i, session=True)
        for i in range(2)
    ],
    "samples in a conversation: one after the other": [
        FIRST_OF_ANN,
        *(Turn(ask(*TWO_TURNS, temperature=0.7), reply(A), at_s=2.1 * i) for i in range(2)),
    ],
    "a batch in a session: the same item twice among others": [
        Turn(ask(system(), user(text)), reply(A), at_s=10.0 * i, session=True)
        for i, text in enumerate(("sort this letter", "sort that letter", "sort this letter"))
    ],
    "an app that gave up waiting asks again": [
        Turn(ask(Q), "", took_s=30.0, answered=False, session=True),
        Turn(ask(Q), reply(A), [(0, S.RETRIED, 0.0)], at_s=31, session=True),
    ],
    "an app that gave up waiting while the answer was on its way": [
        Turn(ask(Q), reply(A), took_s=30.0, session=True),
        Turn(ask(Q), reply(A), at_s=30.5, session=True),
    ],
    "identical greetings of one user": [
        Turn(ask(system(), user("hi")), sse("Hello!"), at_s=20.0 * i) for i in range(2)
    ],
    "identical greetings in two sessions": [
        Turn(ask(system(), Q), sse(A), unit="s1", session=True),
        Turn(ask(system(), Q), sse(A), at_s=20, unit="s2", session=True),
    ],
    "cron: health check without a unit": [
        Turn(ask(user("ping")), reply("pong"), at_s=60.0 * i, unit="") for i in range(5)
    ],
    # Edited.
    "chat: the last message edited": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), reply(A)),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), [(1, S.EDITED, 0.0)], at_s=30),
    ],
    "edited, in a conversation whose first answer was another one": [
        Turn(ask(*TWO_TURNS[:2]), reply("Good day!"), at_s=-60),
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), reply(A)),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), [(2, S.EDITED, 0.0)], at_s=30),
    ],
    "edited, after an answer that nobody gave": [
        Turn(ask(*TWO_TURNS[:2]), reply("Good day!"), at_s=-60),
        Turn(ask(*TWO_TURNS), reply(A)),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), at_s=30),
    ],
    "two similar tickets of one user are two conversations": [
        Turn(ask(system(), TICKET), reply(A)),
        Turn(ask(system(), SIMILAR_TICKET), reply(A), at_s=6),
    ],
    "two similar tickets in one session are two conversations": [
        Turn(ask(system(), TICKET), reply(A), session=True),
        Turn(ask(system(), SIMILAR_TICKET), reply(A), at_s=6, session=True),
    ],
    "similar tickets after the same examples": [
        Turn(ask(*TWO_TURNS[:3], TICKET), reply(A), session=True),
        Turn(ask(*TWO_TURNS[:3], SIMILAR_TICKET), reply(A), at_s=6, session=True),
    ],
    "similar tickets, each after a greeting of its own": [
        Turn(ask(system(), user("hi")), reply("Hello!"), at_s=-10),
        Turn(greeted(TICKET), reply(A)),
        Turn(ask(system(), user("hi")), reply("Hello!"), at_s=20),
        Turn(greeted(SIMILAR_TICKET), reply(A), at_s=30),
        Turn(greeted(SIMILAR_TICKET), reply(A), at_s=60),
    ],
    "similar tickets of two unknown users, who greeted side by side": [
        Turn(ask(system(), user("hi")), reply("Hello!"), at_s=-10, unit=""),
        Turn(ask(system(), user("hi")), reply("Hello!"), at_s=-9, unit=""),
        Turn(greeted(TICKET), reply(A), unit=""),
        Turn(greeted(SIMILAR_TICKET), reply(A), at_s=10, unit=""),
    ],
    "questions in a row on one document": [
        Turn(ask(system(), user("Read this report.")), reply("I did."), at_s=-10),
        *(
            Turn(
                ask(
                    system(),
                    user("Read this report."),
                    said("I did."),
                    user(f"What does it say about the {what} of the company?"),
                ),
                reply(A),
                at_s=2.5 * i,
            )
            for i, what in enumerate(("costs", "income", "debts", "plans"))
        ),
    ],
    "no unit: edited in a conversation that was seen": [
        FIRST,
        Turn(ask(*TWO_TURNS), reply(A), unit=""),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), [(1, S.EDITED, 0.0)], at_s=30, unit=""),
    ],
    "an unrelated second question": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), reply(A)),
        Turn(
            ask(*TWO_TURNS[:3], user("Which wine goes with trout and almonds?")), reply(A), at_s=30
        ),
    ],
    "a question with some words in common": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS[:3], user("How do I bake bread without any yeast at home?")), reply(A)),
        Turn(ask(*TWO_TURNS[:3], user("How do I bake fish with lemon in foil?")), reply(A), [], 30),
    ],
    "short words are not compared": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS[:3], user("yes please")), reply(A)),
        Turn(ask(*TWO_TURNS[:3], user("yes please do")), reply(A), at_s=30),
    ],
    "edited, for other tools": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS, functions=[{"name": "plan"}]), reply(A)),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED, functions=[{"name": "act"}]), reply(A), at_s=30),
    ],
    "edited after a failure": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), "", answered=False),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), at_s=30),
    ],
    "edited faster than anybody types": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), reply(A)),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), at_s=2.5),
    ],
    "batch: a template filled in": [
        Turn(ask(system(), user(f"Translate into plain French please: {x}")), reply(A), [], t)
        for t, x in ((0, "dog"), (10, "cat"), (20, "cow"), (30, "hen"), (40, "pig"))
    ],
    "slow batch in a conversation: what was read off it is taken back": [
        FIRST_OF_ANN,
        Turn(translated("dog"), reply(A)),
        Turn(translated("cat"), reply(A), [(1, S.EDITED, 0.0)], at_s=10),
        Turn(translated("cow"), reply(A), [(2, S.EDITED, 0.0)], at_s=20),
        Turn(translated("hen"), reply(A), [(1, S.EDITED, None), (2, S.EDITED, None)], at_s=30),
    ],
    "rag: another question on the same long context": [
        FIRST_OF_ANN,
        *(
            Turn(
                ask(*TWO_TURNS[:3], user(" ".join(f"word{i}" for i in range(300)) + word)),
                reply(A),
                at_s=at_s,
            )
            for at_s, word in ((0, " why?"), (30, " how?"))
        ),
    ],
    "edited after the answer was used": [
        FIRST_OF_ANN,
        Turn(ask(*TWO_TURNS), reply(A)),
        Turn(ask(*TWO_TURNS, said(A), user("And in Java?")), reply(A), at_s=20),
        Turn(ask(*TWO_TURNS[:3], Q_EDITED), reply(A), at_s=60),
    ],
    # Words.
    "thanks": [
        Turn(ask(Q), reply(A)),
        Turn(ask(Q, said(A), user("Thanks, perfect!")), reply("Welcome."), at_s=30),
    ],
    "no, that's wrong": [
        Turn(ask(Q), reply(A)),
        Turn(ask(Q, said(A), user("No, that's wrong.")), reply("Sorry."), at_s=30),
    ],
    "silence": [Turn(ask(Q), reply(A)), Turn(ask(user("Bye")), reply("Bye"), at_s=3000)],
    # Retried.
    "retried after a failure": [
        Turn(ask(Q), "", answered=False),
        Turn(ask(Q), reply(A), [(0, S.RETRIED, 0.0)], at_s=3),
    ],
    "retried twice, then regenerated": [
        Turn(ask(Q), "", answered=False),
        Turn(ask(Q), "", [(0, S.RETRIED, 0.0)], at_s=3, answered=False),
        Turn(ask(Q), reply(A), [(1, S.RETRIED, 0.0)], at_s=6, session=True),
        Turn(ask(Q), reply(A), [(2, S.REGENERATED, 0.0)], at_s=30, session=True),
    ],
    "hedged: the first was still going": [
        Turn(ask(Q), "", took_s=1.5, answered=False),
        Turn(ask(Q), reply(A), at_s=1, took_s=2),
    ],
    "one of two side by side failed: the line goes on": [
        Turn(ask(Q), reply(A), took_s=3),
        Turn(ask(Q), "", at_s=1, took_s=4, answered=False),
        Turn(ask(Q), reply(A), [(1, S.RETRIED, 0.0)], at_s=8),
    ],
    "a failure of somebody else": [
        Turn(ask(Q), "", answered=False),
        Turn(ask(Q), reply(A), at_s=3, unit="bob"),
    ],
    # Limits.
    "more messages than are read": one(ask(*[Q] * 513), reply("")),
    "more tools than are read": one(ask(Q, tools=[WEATHER] * 129), reply("")),
    "longer than is read": one(ask(user("x" * (1 << 20))), reply("")),
}
