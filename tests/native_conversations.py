"""Conversations that only Messages, or only Responses, can have; as `conversations` writes them."""

from __future__ import annotations

from typing import Any

from conversations import AGENT, GOOD_STEPS, STEPS, A, Json, Label, Q, Turn, user
from retold import events

from telemetry.events import Source as S

ID = "toolu_01AbCdEfGhIjKlMnOpQrStUv"
OTHER_ID = "toolu_01ZyXwVuTsRqPoNmLkJiHgFe"
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
REMINDER = {"type": "text", "text": "<system-reminder>\nThe list of tasks is empty as of now."}
QUESTION = str(Q["content"])
TEXT = {"type": "text", "text": A}
CITED = {"type": "text", "text": A, "citations": [{"type": "char_location"}]}
THOUGHT = {"type": "thinking", "thinking": "Hmm", "signature": "c2ln"}
SEARCHED = [
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
]
WEATHER_TOOL = {"name": "get_weather", "description": "of a city", "input_schema": CITY}
SEARCH_TOOL = {"type": "web_search_20250305", "name": "web_search"}
TESTS = {"command": "pytest"}


def said(*blocks: Any) -> Json:
    return {"role": "assistant", "content": list(blocks)}


def results(*blocks: Any) -> Json:
    return {"role": "user", "content": list(blocks)}


def use(name: str = "get_weather", id_: str = ID, **arguments: Any) -> Json:
    return {"type": "tool_use", "id": id_, "name": name, "input": arguments or {"city": "Paris"}}


def result(content: Any, id_: str = ID, **more: Any) -> Json:
    return {"type": "tool_result", "tool_use_id": id_, "content": content, **more}


def ask(*messages: Json, **more: Any) -> Json:
    return {"model": "auto", "max_tokens": 4096, "messages": list(messages), **more}


def reply(*blocks: Json, reason: str = "end_turn", **more: Any) -> Json:
    top = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
    return {**top, "content": list(blocks), "stop_reason": reason, **more}


def turn(request: Json, answer: Json | str, labels: list[Label] | None = None, **more: Any) -> Turn:
    return Turn(request, answer, labels or [], dialect="messages", **more)


def one(request: Json, answer: Json | str, source: S | None = None, value: float = 0.0) -> Any:
    return [turn(request, answer, [(0, source, value)] if source else [])]


GOOD_CALL = [(0, S.TOOL_CALL, 1.0)]
ASKS = ask(Q, tools=[WEATHER_TOOL])


def after(*blocks: Json, labels: list[Label] | None = None) -> list[Turn]:
    """A call of a tool, and what its client sends back."""
    history = (Q, said(THOUGHT, use()), results(*blocks))
    return [
        turn(ASKS, reply(THOUGHT, use(), reason="tool_use"), GOOD_CALL),
        turn(ask(*history, tools=[WEATHER_TOOL]), reply(TEXT), labels, at_s=5),
    ]


FAILED: list[Label] = [(0, S.TOOL_RESULT, 0.0)]
SHELL_TOOL = {"name": "shell", "input_schema": {"type": "object"}}


def looping(*beside: Json) -> Json:
    """An agent that has made the same call twice, with what its client puts beside the results."""
    history = [user("fix the failing test")]
    for n in range(2):
        made = use("shell", f"toolu_0123456789abcde{n}", **TESTS)
        history += [said(made), results(result("1 failed", made["id"]), *beside)]
    return ask(*history, system=AGENT["content"], tools=[SHELL_TOOL])


def billed(number: str) -> list[Json]:
    """A system prompt of Claude Code's, with the line that changes from call to call."""
    line = f"x-anthropic-billing-header: cc_version=2.1.197.{number}; cch={number};"
    return [{"type": "text", "text": line}, {"type": "text", "text": "You are helpful."}]


BEGUN = (user("hello there my friend"), said({"type": "text", "text": "Hello!"}))
GREETED = turn(ask(BEGUN[0]), reply({"type": "text", "text": "Hello!"}), at_s=-30)


def reminded(question: str) -> Json:
    """A second turn, with a long reminder before what a person typed."""
    return ask(*BEGUN, results(REMINDER, {"type": "text", "text": question}))


START = {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 3}}}
END = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 3}}
STOP = {"type": "message_stop"}


def begin(index: int, block: Json) -> Json:
    return {"type": "content_block_start", "index": index, "content_block": block}


def piece(index: int, kind: str, **more: Any) -> Json:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **more}}


def threaded(*blocks: Json, answer: Json, labels: list[Label] | None = None) -> list[Turn]:
    """A call of a tool in a thread: its turn and the tools lie at the provider from then on."""
    going_on = ask(results(*blocks), thread=after_message("msg_1"))
    return [
        turn(ASKS | {"thread": {"type": "create"}}, reply(use(), reason="tool_use"), GOOD_CALL),
        turn(going_on, answer, labels, at_s=5),
    ]


def after_message(id_: str) -> Json:
    return {"type": "continue", "previous_message_id": id_}


def twice_after(labels: list[Label], first: str, second: str) -> list[Turn]:
    """The same words twice in a session, each after a message of a thread."""
    return [
        turn(ask(Q, thread=after_message(first)), reply(TEXT), session=True),
        turn(ask(Q, thread=after_message(second)), reply(TEXT), labels, at_s=20, session=True),
    ]


MESSAGES: dict[str, list[Turn]] = {
    "thread: its tool failed": threaded(
        result("no such city", is_error=True), answer=reply(TEXT), labels=FAILED
    ),
    "thread: its tool worked": threaded(result("sunny"), answer=reply(TEXT)),
    "thread: its tools are not told again": threaded(
        result("sunny"), answer=reply(use(id_=OTHER_ID, city="Rome"), reason="tool_use")
    ),
    "thread: a tool that is none of those told": one(
        ask(Q, tools=[WEATHER_TOOL], thread=after_message("msg_1")),
        reply(use("get_time"), reason="tool_use"),
        S.TOOL_CALL,
    ),
    "thread: the same words after another message": twice_after([], "msg_1", "msg_2"),
    "thread: regenerated": twice_after([(0, S.REGENERATED, 0.0)], "msg_1", "msg_1"),
    "tool: is_error": after(result("no such city", is_error=True), labels=FAILED),
    "tool: is_error, with parts": after(
        result([{"type": "text", "text": "no such city"}], is_error=True), labels=FAILED
    ),
    "tool: is_error, with nothing": after(result(None, is_error=True), labels=FAILED),
    "tool: no error, whatever its text": after(result("Error: none", is_error=False)),
    "tool: an error in the text alone": after(result("Error: no such city"), labels=FAILED),
    "tool: a command that ran": after(result("Exit code 1\n2 failed", is_error=True)),
    "tool: not allowed by a person": after(
        result("The user doesn't want to proceed with this tool use.", is_error=True)
    ),
    "tool: an error beside words of the user": after(
        result("no such city", is_error=True), {"type": "text", "text": "try Rome"}, labels=FAILED
    ),
    "two results in one message, one an error": [
        turn(ASKS, reply(use(), use(id_=OTHER_ID), reason="tool_use"), GOOD_CALL),
        turn(
            ask(
                Q,
                said(use(), use(id_=OTHER_ID)),
                results(result("sunny"), result("gone", OTHER_ID, is_error=True)),
                tools=[WEATHER_TOOL],
            ),
            reply(TEXT),
            FAILED,
            at_s=5,
        ),
    ],
    "refusal": one(ask(Q), reply(reason="refusal"), S.REFUSED),
    "refusal in the middle of a text": one(ask(Q), reply(TEXT, reason="refusal"), S.REFUSED),
    "the context was full": one(
        ask(Q), reply(TEXT, reason="model_context_window_exceeded"), S.TRUNCATED
    ),
    "a pause is no end": one(ask(Q, tools=[SEARCH_TOOL]), reply(*SEARCHED, reason="pause_turn")),
    "a pause is no broken schema": one(
        ask(Q, output_config={"format": {"type": "json_schema", "schema": STEPS}}),
        reply(TEXT, reason="pause_turn"),
    ),
    "the provider's own tool, and no text": one(ask(Q, tools=[SEARCH_TOOL]), reply(*SEARCHED)),
    "the provider's own tool was demanded": one(
        ask(Q, tools=[SEARCH_TOOL], tool_choice={"type": "tool", "name": "web_search"}),
        reply(*SEARCHED, CITED),
    ),
    "the provider's own tool was demanded, and nothing shows of it": one(
        ask(
            Q,
            tools=[WEATHER_TOOL, {"type": "memory_20250818", "name": "memory"}],
            tool_choice={"type": "tool", "name": "memory"},
        ),
        reply(TEXT),
    ),
    "any tool was demanded, and the provider's own called": one(
        ask(Q, tools=[WEATHER_TOOL, SEARCH_TOOL], tool_choice={"type": "any"}),
        reply(*SEARCHED, CITED),
    ),
    "a tool of the provider's design, that the client runs": one(
        ask(Q, tools=[{"type": "bash_20250124", "name": "bash"}]),
        reply(use("bash", command="ls"), reason="tool_use"),
    ),
    "thought to the limit": one(
        ask(Q),
        reply({"type": "redacted_thinking", "data": "x"}, reason="max_tokens"),
        S.REASONING_LIMIT,
    ),
    "a tool call cut by the limit": one(
        ASKS, reply(use(city="Pa"), reason="max_tokens"), S.TRUNCATED
    ),
    "output_format: schema met": one(
        ask(Q, output_format={"type": "json_schema", "schema": STEPS}),
        reply({"type": "text", "text": GOOD_STEPS}),
        S.SCHEMA,
        1.0,
    ),
    "output_format: schema missed": one(
        ask(Q, output_format={"type": "json_schema", "schema": STEPS}), reply(TEXT), S.SCHEMA
    ),
    "strict tool, called with the wrong type": one(
        ask(Q, tools=[WEATHER_TOOL | {"strict": True}]), reply(use(city=3)), S.TOOL_CALL
    ),
    "nothing before a stop sequence": one(
        ask(Q, stop_sequences=["\n"]), reply(reason="stop_sequence")
    ),
    "nothing at all": one(ask(Q), reply(), S.EMPTY),
    "begun by the client, cut": one(
        ask(Q, {"role": "assistant", "content": "{"}), reply(TEXT, reason="max_tokens")
    ),
    "parallel calls switched off": one(
        ask(
            Q,
            tools=[WEATHER_TOOL],
            tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        ),
        reply(TEXT),
    ),
    "the input of a call whole in its first event": one(
        ASKS, events([START, begin(0, use()), END, STOP]), S.TOOL_CALL, 1.0
    ),
    "text in the first event, and pieces after it": one(
        ask(Q, output_format={"type": "json_schema", "schema": {"type": "array"}}),
        events(
            [
                START,
                begin(0, {"type": "text", "text": "["}),
                piece(0, "text_delta", text="1]"),
                END,
                STOP,
            ]
        ),
        S.SCHEMA,
        1.0,
    ),
    "a piece of a block that never began": one(
        ask(Q), events([START, piece(0, "text_delta", text="Hi"), END, STOP])
    ),
    "an error after the first words": one(
        ask(Q),
        events([START, begin(0, {"type": "text", "text": ""}), {"type": "error", "error": {}}]),
    ),
    "agent: the same call a third time": one(
        looping(), reply(use("shell", OTHER_ID, **TESTS)), S.LOOP
    ),
    "agent: reminders beside results are nobody's words": one(
        looping(REMINDER), reply(use("shell", OTHER_ID, **TESTS)), S.LOOP
    ),
    "agent: the user spoke beside a result": one(
        looping({"type": "text", "text": "run it again"}),
        reply(use("shell", OTHER_ID, **TESTS)),
        S.TOOL_CALL,
        1.0,
    ),
    "regenerated, with thoughts left out and the prompt in parts": [
        turn(ask(user("hi"), system="Be brief."), reply(THOUGHT, TEXT), at_s=-30),
        turn(ask(user("hi"), said(THOUGHT, TEXT), Q, system="Be brief."), reply(TEXT)),
        turn(
            ask(
                results({"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}),
                said(TEXT),
                Q,
                system=[{"type": "text", "text": "Be brief."}],
            ),
            reply(TEXT),
            [(1, S.REGENERATED, 0.0)],
            at_s=20,
        ),
    ],
    "another system prompt": [
        turn(ask(Q, system="Be brief."), reply(TEXT), session=True),
        turn(ask(Q, system="Be kind."), reply(TEXT), at_s=20, session=True),
    ],
    "claude code: a line of the system prompt that changes": [
        turn(ask(Q, system=billed("a1")), reply(TEXT), session=True),
        turn(
            ask(Q, system=billed("b2")),
            reply(TEXT),
            [(0, S.REGENERATED, 0.0)],
            at_s=20,
            session=True,
        ),
    ],
    "claude code: the last message edited, after a reminder": [
        GREETED,
        turn(reminded(QUESTION), reply(TEXT)),
        turn(
            reminded(QUESTION.replace("explain", "explain briefly")),
            reply(TEXT),
            [(1, S.EDITED, 0.0)],
            at_s=30,
        ),
    ],
    "claude code: other words after the same reminder": [
        GREETED,
        turn(reminded(QUESTION), reply(TEXT)),
        turn(reminded("Which wine goes with trout and almonds?"), reply(TEXT), at_s=30),
    ],
}

# -- Responses -----------------------------------------------------------------------------------

FUNCTION = {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}
SEARCH = {"type": "web_search"}
REMOTE = {"type": "mcp", "server_label": "docs", "server_url": "https://a", "name": "ask"}
SEARCH_CALL = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {}}
REASONED = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
LONG_ID = "call_Zk3vQ9xTn2Lw8aYb"


def message(text: str = A, **more: Any) -> Json:
    part = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "id": "msg_1", "role": "assistant", "content": [part], **more}


def called(arguments: str = '{"city": "Paris"}', id_: str = LONG_ID, **more: Any) -> Json:
    item = {"type": "function_call", "id": "fc_1", "call_id": id_, "name": "get_weather"}
    return {**item, "arguments": arguments, **more}


def gave(output: Any, id_: str = LONG_ID, kind: str = "function_call_output") -> Json:
    return {"type": kind, "call_id": id_, "output": output}


def put(*items: Any, **more: Any) -> Json:
    """A request: text alone, or items."""
    told = items[0] if len(items) == 1 and isinstance(items[0], str) else list(items)
    return {"model": "auto", "input": told, **more}


def got(*output: Json, status: str = "completed", reason: str | None = None) -> Json:
    details = {"reason": reason} if reason else None
    top = {"id": "resp_1", "object": "response", "status": status, "error": None}
    return {**top, "incomplete_details": details, "output": list(output)}


def step(request: Json, answer: Json | str, labels: list[Label] | None = None, **more: Any) -> Turn:
    return Turn(request, answer, labels or [], dialect="responses", **more)


def only(request: Json, answer: Json | str, source: S | None = None, value: float = 0.0) -> Any:
    return [step(request, answer, [(0, source, value)] if source else [])]


NEEDS_WEATHER = put(QUESTION, tools=[FUNCTION])
REFUSED = {"type": "refusal", "refusal": "I can't help with that."}
NAMESPACE = {"type": "namespace", "name": "maps", "tools": [FUNCTION]}
ITEMS_DONE = [
    {"type": "response.created", "response": got(status="in_progress")},
    {"type": "response.output_item.done", "output_index": 0, "item": called()},
]


def stateful(result: Json, labels: list[Label] | None = None, **more: Any) -> list[Turn]:
    """A call of a tool, whose turn lies at the provider when its result comes."""
    id_ = result["call_id"]
    return [
        step(NEEDS_WEATHER, got(called(id_=id_)), GOOD_CALL),
        step(put(result, tools=[FUNCTION], **more), got(message()), labels, at_s=5),
    ]


def twice(labels: list[Label], first: Json, second: Json) -> list[Turn]:
    """The same words twice in a session."""
    return [
        step(put(QUESTION, **first), got(message()), session=True),
        step(put(QUESTION, **second), got(message()), labels, at_s=20, session=True),
    ]


def same_calls(n: int) -> list[Json]:
    history: list[Json] = [user("what is the weather now?")]
    for i in range(n):
        id_ = f"call_0123456789abcde{i}"
        history += [REASONED | {"id": f"rs_{i}"}, called(id_=id_), gave("no answer yet", id_)]
    return history


def searched(call: Json) -> Json:
    """The turn after an answer for which the provider searched."""
    return put(user(QUESTION), call, message(), user("And in Java?"), tools=[SEARCH])


RESPONSES: dict[str, list[Turn]] = {
    "refusal": only(put(QUESTION), got(message() | {"content": [REFUSED]}), S.REFUSED),
    "cut by the provider for another reason": only(
        put(QUESTION, text={"format": {"type": "json_schema", "schema": STEPS}}),
        got(message(), status="incomplete", reason="max_tool_calls"),
    ),
    "in the background, and not done": only(put(QUESTION, background=True), got(status="queued")),
    "called off": only(put(QUESTION), got(status="cancelled")),
    "a stream without an end": only(NEEDS_WEATHER, events(ITEMS_DONE)),
    "a stream whose end tells of no item": only(
        NEEDS_WEATHER,
        events([*ITEMS_DONE, {"type": "response.completed", "response": got()}]),
        S.TOOL_CALL,
        1.0,
    ),
    "a stream of pieces alone is not put together": only(
        put(QUESTION),
        events(
            [
                {"type": "response.output_text.delta", "output_index": 0, "delta": "Hi"},
                {"type": "response.completed", "response": got()},
            ]
        ),
    ),
    "a stream in which nothing is said": only(
        put(QUESTION), events([{"type": "response.completed", "response": got()}]), S.EMPTY
    ),
    "a stream that failed": only(
        NEEDS_WEATHER,
        events([*ITEMS_DONE, {"type": "response.failed", "response": got(status="failed")}]),
    ),
    "the provider's own tool, and no text": only(put(QUESTION, tools=[SEARCH]), got(SEARCH_CALL)),
    "a tool was demanded, and the provider's own called": only(
        put(QUESTION, tools=[SEARCH, FUNCTION], tool_choice="required"), got(SEARCH_CALL, message())
    ),
    "the provider's own tool was demanded": only(
        put(QUESTION, tools=[SEARCH], tool_choice={"type": "web_search"}), got(message())
    ),
    "one of two demanded tools is the provider's": only(
        put(
            QUESTION,
            tools=[REMOTE, FUNCTION],
            tool_choice={
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "get_weather"}, REMOTE],
            },
        ),
        got(message()),
    ),
    "a picture": only(put(QUESTION), got({"type": "image_generation_call", "result": "iVBO"})),
    "tool of a namespace": only(
        put(QUESTION, tools=[NAMESPACE]), got(called(namespace="maps")), S.TOOL_CALL, 1.0
    ),
    "tool of a namespace, with the wrong arguments": only(
        put(QUESTION, tools=[NAMESPACE]), got(called("{}", namespace="maps")), S.TOOL_CALL
    ),
    "codex: free text as input": only(
        put(QUESTION, tools=[{"type": "custom", "name": "apply_patch"}]),
        got({"type": "custom_tool_call", "call_id": LONG_ID, "name": "apply_patch", "input": "*"}),
    ),
    "a custom tool that fails": [
        step(NEEDS_WEATHER, got(called()), GOOD_CALL),
        step(
            put(user(QUESTION), called(), gave("Error: gone", kind="custom_tool_call_output")),
            got(message()),
            FAILED,
            at_s=5,
        ),
    ],
    "the prompt apart, and the words as text": [
        step(put(QUESTION, instructions="Be brief."), got(message()), session=True),
        step(
            put(user(QUESTION), instructions="Be brief."),
            got(message()),
            [(0, S.REGENERATED, 0.0)],
            at_s=20,
            session=True,
        ),
    ],
    "agent: the same call a third time, with thoughts between": only(
        put(*same_calls(2), tools=[FUNCTION]),
        got(REASONED, called(id_="call_0123456789abcdez")),
        S.LOOP,
    ),
    "regenerated after an answer of several items": [
        step(put(QUESTION, tools=[FUNCTION]), got(REASONED, message("Wait."), called()), GOOD_CALL),
        *(
            step(
                put(
                    user(QUESTION),
                    *([REASONED] if at_s else []),
                    {"role": "assistant", "content": "Wait."},
                    called(),
                    gave([{"type": "input_text", "text": "sunny"}]),
                    tools=[FUNCTION],
                ),
                got(message()),
                labels,
                at_s=at_s,
            )
            for at_s, labels in ((5.0, []), (30.0, [(1, S.REGENERATED, 0.0)]))
        ),
    ],
    "regenerated after the provider's own tool, told without its id": [
        step(put(QUESTION, tools=[SEARCH]), got(SEARCH_CALL, message()), at_s=-30),
        step(searched(SEARCH_CALL), got(message())),
        step(
            searched({k: v for k, v in SEARCH_CALL.items() if k not in ("id", "status")}),
            got(message()),
            [(1, S.REGENERATED, 0.0)],
            at_s=20,
        ),
    ],
    "previous response: its tool failed": stateful(
        gave("Error: gone"), FAILED, previous_response_id="resp_1"
    ),
    "previous response: a short id may be another's": stateful(
        gave("Error: gone", "call_0"), previous_response_id="resp_1"
    ),
    "previous response: its tool worked": stateful(gave("sunny"), previous_response_id="resp_1"),
    "an id that no turn of the request has": stateful(gave("Error: gone")),
    "conversation: its tool failed": stateful(gave("Error: gone"), FAILED, conversation="conv_1"),
    "the call is named, not told": [
        step(NEEDS_WEATHER, got(called()), GOOD_CALL),
        step(
            put(user(QUESTION), {"type": "item_reference", "id": "fc_1"}, gave("Error: gone")),
            got(message()),
            FAILED,
            at_s=5,
        ),
    ],
    "previous response: the same words after another one": twice(
        [], {"previous_response_id": "resp_1"}, {"previous_response_id": "resp_2"}
    ),
    "previous response: regenerated": twice(
        [(0, S.REGENERATED, 0.0)],
        {"previous_response_id": "resp_1"},
        {"previous_response_id": "resp_1"},
    ),
    "conversation: the same words again are the next turn": twice(
        [], {"conversation": {"id": "conv_1"}}, {"conversation": {"id": "conv_1"}}
    ),
    "conversation: the same words after a failure may be the next turn": [
        step(put("go on", conversation="conv_1"), "", answered=False, session=True),
        step(put("go on", conversation="conv_1"), got(message()), at_s=9, session=True),
    ],
    "two stored prompts": twice([], {"prompt": {"id": "pmpt_1"}}, {"prompt": {"id": "pmpt_2"}}),
}

NATIVE = {f"messages: {name}": turns for name, turns in MESSAGES.items()}
NATIVE |= {f"responses: {name}": turns for name, turns in RESPONSES.items()}
