"""A run of events that bring a text in pieces is read as one, and means what they all mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from workers.observer import chat, messages
from workers.observer.readers import READERS, parse_answer
from workers.observer.shapes import ReadAnswer
from workers.observer.whole_streams import Piecewise, events_in

HIGH, LOW = "\\ud83d", "\\ude00"
PIECES = ["", "a", "word ", "\\n", '\\"', "\\\\", HIGH, LOW, "\\u00e9", "é", "😀", "~probe~"]
BROKEN = ["\\", '"', "\\u12", "\\q", "\t", 'a","content":"b', "\\\\\\", '"}}]}']
END = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'
FIRST = '{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}'
BEFORE = '{"id":"c","choices":[{"index":0,"delta":{"content":"'
AFTERS = [
    '"}}]}',
    '"},"finish_reason":"length"}],"usage":null}',
    '","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}}]}',
    '"}}],"error":{"message":"busy"}}',
    '","content":"two"}}]}',
    '","content":"~probe~"}}]}',
    '","content":"\\u007eprobe~"}}]}',
    '"}}],"x":' + 1500 * "[" + 1500 * "]" + "}",
]
BEFORES = [
    BEFORE,
    BEFORE.replace('"content"', '"\\u0063ontent":"k","reasoning"'),
    BEFORE.replace('"content"', '"reasoning_content"'),
    BEFORE.replace('"content"', '"refusal"'),
]


def stream(events: list[str], *, end: str = "\n", name: str = "") -> bytes:
    head = f"event: {name}{end}" if name else ""
    return "".join(f"{head}data: {event}{end}{end}" for event in events).encode()


def one_by_one(events: list[str], dialect: str, **how: Any) -> ReadAnswer | None:
    """What is read where other line ends keep events from being read together."""
    return parse_answer(stream(events, end="\r\n", **how), dialect, streamed=True)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(PIECES) | st.sampled_from(PIECES + BROKEN), max_size=8),
    st.sampled_from(BEFORES),
    st.sampled_from(AFTERS),
    st.integers(0, 8),
    st.sampled_from([FIRST, "{}"]),
)
@example([HIGH, LOW, "a"], BEFORE, AFTERS[0], 0, FIRST)
@example(["a" + HIGH, LOW + "b"], BEFORE, AFTERS[0], 8, FIRST)
@example(["a\\", "b", "c"], BEFORE, AFTERS[0], 0, FIRST)
@example(['a","content":"b', "c", "d"], BEFORE, AFTERS[0], 0, FIRST)
@example(["a", "b", "c"], BEFORE, AFTERS[2], 0, FIRST)
@example(["a", "b", "c", "d"], BEFORE, AFTERS[0], 2, "{}")
@example(["a", "b", "c"], BEFORE, AFTERS[4], 0, FIRST)
@example(["a", "b", "c"], BEFORE, AFTERS[5], 0, FIRST)
@example(["a", "b", "c"], BEFORE, AFTERS[6], 0, FIRST)
def test_a_run_of_pieces_means_what_its_events_mean(
    pieces: list[str], before: str, after: str, place: int, other: str
) -> None:
    events = [before + piece + after for piece in pieces]
    events.insert(place, other)
    events.append(END)

    found = parse_answer(stream(events), "chat", streamed=True)

    assert found == one_by_one(events, "chat")


@given(
    st.lists(st.sampled_from(PIECES + BROKEN), max_size=8),
    st.sampled_from(["text_delta", "input_json_delta", "thinking_delta"]),
    st.sampled_from(["0", "1"]),
    st.integers(0, 8),
)
def test_so_it_does_in_blocks(pieces: list[str], kind: str, index: str, ping: int) -> None:
    field = messages.PIECES[kind]
    begin = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'
    head = f'{{"type":"content_block_delta","index":{index},"delta":{{"type":"{kind}","{field}":"'
    events = [head + piece + '"}}' for piece in pieces]
    events.insert(ping, '{"type":"ping"}')
    events = [begin, *events, '{"type":"message_delta","delta":{"stop_reason":"end_turn"}}']

    found = parse_answer(stream(events, name="any"), "messages", streamed=True)

    assert found == one_by_one(events, "messages", name="any")


@pytest.mark.parametrize(
    ("piecewise", "dialect", "event"),
    [
        (chat.PIECEWISE, "chat", BEFORE + "word %d" + AFTERS[0]),
        (
            messages.PIECEWISE,
            "messages",
            '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"%d"}}',
        ),
    ],
    ids=["chat", "messages"],
)
def test_pieces_are_read_together(piecewise: Piecewise, dialect: str, event: str) -> None:
    """Whatever comes before and after them; a name may stand before each."""
    assert dialect in READERS
    text = stream([FIRST, *(event % i for i in range(20)), END], name="some_delta")

    (first, run, last) = events_in(text, json.loads, lambda _: None, piecewise)

    assert (json.dumps(first), json.dumps(last)) == tuple(
        json.dumps(json.loads(told)) for told in (FIRST, END)
    )
    assert "".join(str(i) for i in range(20)) in json.dumps(run).replace("word ", "")
