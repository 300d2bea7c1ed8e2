"""Streams of OpenAI's Responses, said. No endpoint that is translated for speaks them."""

from __future__ import annotations

from typing import Any

from router.dialects.messages_stream import named_event
from router.translation import responses_answer
from router.translation.completion import Begun, Declined
from router.translation.event_writer import Block, SequentialWriter
from router.translation.fitting import Fitting
from router.translation.parts import Said
from router.translation.prompt import Text, Thought, ToolUse
from router.translation.responses_answer import SHORTFALLS

DONE_FIELDS = {
    "function_call_arguments": "arguments",
    "custom_tool_call_input": "input",
    "reasoning_summary_text": "text",
    "refusal": "refusal",
    "output_text": "text",
}
"""Under which name the event that ends what came in pieces says all of it, by its kind."""


class ResponsesEventWriter(SequentialWriter):
    """Says a streamed answer, one item after another; its last event says all of them again."""

    ping = b": ping\n\n"

    def __init__(
        self, fitting: Fitting, *, echo: dict[str, Any], created: int, shows_thinking: bool
    ) -> None:
        """Begin.

        Args:
            fitting: what the answer is fitted to.
            echo: the caller's own request, of which an answer repeats some fields.
            created: when the answer was made, in seconds since 1970.
            shows_thinking: the caller reads what was thought.
        """
        super().__init__(fitting, shows_thinking=shows_thinking)
        self._echo = echo
        self._created = created
        self._head: dict[str, Any] = {}
        self._items: list[dict[str, Any]] = []

    def _begin(self, begun: Begun) -> bytes:
        head = responses_answer.head(begun.id, begun.model, self._echo, created=self._created)
        self._head = head
        kinds = ("response.created", "response.in_progress")
        return b"".join(self._event(kind, {"response": head}) for kind in kinds)

    def _open(self, block: Block) -> bytes:
        empty = _part(block, "")
        item = responses_answer.item(empty, self._item_id(block))
        if isinstance(empty, ToolUse):
            return self._item_event("added", block, item | {"status": "in_progress"})
        if isinstance(empty, Thought):
            added = self._item_event("added", block, item | {"summary": []})
            part, around = item["summary"][0], "response.reasoning_summary_part.added"
        else:
            begun = {"status": "in_progress", "content": []}
            added = self._item_event("added", block, item | begun)
            part, around = item["content"][0], "response.content_part.added"
        return added + self._event(around, {**self._at(block), "part": part})

    def _more(self, block: Block, text: str) -> bytes:
        kind = _kind(block)
        more: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        return self._event(f"response.{kind}.delta", {**self._at(block), "delta": text, **more})

    def _close(self, block: Block, *, is_last: bool) -> bytes:
        is_short = is_last and self.stop in SHORTFALLS
        part, kind = _part(block, block.text), _kind(block)
        item = responses_answer.item(part, self._item_id(block), is_short=is_short)
        self._items.append(item)
        said: dict[str, Any] = {DONE_FIELDS[kind]: block.text}
        if kind == "output_text":
            said["logprobs"] = []
        elif kind == "function_call_arguments":
            said["name"] = item["name"]
        out = [self._event(f"response.{kind}.done", {**self._at(block), **said})]
        if not isinstance(part, ToolUse):
            is_thought = isinstance(part, Thought)
            around = "reasoning_summary_part" if is_thought else "content_part"
            inner = item["summary" if is_thought else "content"][0]
            out.append(self._event(f"response.{around}.done", {**self._at(block), "part": inner}))
        out.append(self._item_event("done", block, item))
        return b"".join(out)

    def _end(self) -> bytes:
        said = self._advance(is_end=True)
        whole = responses_answer.ended(self._head, self._items, self.stop, self.count)
        return said + self._event(f"response.{whole['status']}", {"response": whole})

    def _item_id(self, block: Block) -> str:
        assert self.begun is not None
        return responses_answer.item_id(self.begun.id, _part(block, ""), block.place)

    def _at(self, block: Block) -> dict[str, Any]:
        """Return where something of an item belongs."""
        at: dict[str, Any] = {"item_id": self._item_id(block), "output_index": block.place}
        if block.of is Thought:
            return at | {"summary_index": 0}
        return at | {"content_index": 0} if block.call is None else at

    def _item_event(self, what: str, block: Block, item: dict[str, Any]) -> bytes:
        return self._event(
            f"response.output_item.{what}", {"output_index": block.place, "item": item}
        )

    def _event(self, kind: str, said: dict[str, Any]) -> bytes:
        number, self.n_events = self.n_events, self.n_events + 1
        return named_event({"type": kind, "sequence_number": number, **said})


def _part(block: Block, text: str) -> Said:
    """Return what a block is, when it says this."""
    call = block.call
    if call is not None:
        return ToolUse(call.id, call.name, text, call.is_custom)
    return (block.of or Text)(text)


def _kind(block: Block) -> str:
    """Return what events call the pieces of a block."""
    if block.call is not None:
        return "custom_tool_call_input" if block.call.is_custom else "function_call_arguments"
    if block.of is Thought:
        return "reasoning_summary_text"
    return "refusal" if block.of is Declined else "output_text"
