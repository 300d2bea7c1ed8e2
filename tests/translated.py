"""Answers to translate: samples of what endpoints send, and generated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from router.translation.completion import Completion, Count, Stop
from router.translation.parts import joined, stop_of
from router.translation.prompt import Prompt, Text, Thought, ToolUse

SAMPLES = sorted((Path(__file__).parent / "data" / "translation" / "answers").glob("*.json"))
"""Each begins with its endpoint's dialect; it holds an answer, whole and streamed, and what
callers of the others get of both."""
SHOWING, HIDING = Prompt(shows_thinking=True), Prompt()
CREATED = 7
IN_CHAT = [Stop.END, Stop.LENGTH, Stop.TOOLS, Stop.REFUSAL]
"""Reasons for the end that a chat can give."""

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
objects = st.dictionaries(texts, values, max_size=3).map(lambda v: msgspec.json.encode(v).decode())
calls = st.builds(ToolUse, id=texts, name=texts, arguments=objects)
tokens = st.builds(
    lambda fresh, cached, written, output, reasoning: Count(
        fresh + cached + written, max(output, reasoning), cached, written, reasoning
    ),
    *[st.integers(0, 1 << 20)] * 5,
)


def answers(stops: list[Stop], *, kinds: Any) -> st.SearchStrategy[Completion]:
    """Answers as a reader makes them: their parts joined, their reason for the end settled."""

    def made(parts: list[Any], called: list[ToolUse], stop: Stop, **more: Any) -> Completion:
        found = Completion(parts=joined((*parts, *called)), stop=stop, **more)
        return msgspec.structs.replace(found, stop=stop_of(found))

    return st.builds(
        made,
        parts=kinds,
        called=st.lists(calls, max_size=3, unique_by=lambda call: call.id),
        stop=st.sampled_from(stops),
        id=st.none() | texts,
        model=st.none() | texts,
        count=st.none() | tokens,
    )


words = texts.filter(str.strip)
chat_parts = st.tuples(
    st.lists(st.builds(Thought, words), max_size=1), st.lists(st.builds(Text, words), max_size=1)
).map(lambda both: [*both[0], *both[1]])
"""In the one order that a chat has."""
message_parts = st.lists(st.one_of(st.builds(Thought, texts), st.builds(Text, texts)), max_size=5)
