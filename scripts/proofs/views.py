"""What a client saw of a script's answer, and two such views held against one another. Pure.

Two clients are looked at: the real SDK, and a lenient reader of the raw bytes, as many apps have
one: it joins contents, skips what it cannot read, and believes any finish reason or `[DONE]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from scripts.proofs.script_replies import TOOL, finish_of, words_of
from scripts.proofs.turns import FaultScript, TurnKind


class ViewEnd(StrEnum):
    """How a call ended for the SDK."""

    ANSWER = "answer"
    REFUSAL = "refusal"  # a status, with its body
    ERROR = "error"  # told or broken in some other way


@dataclass(frozen=True, slots=True)
class ScriptView:
    """What one client saw of one script."""

    end: ViewEnd
    said: Any = None  # of an answer: all that the SDK's objects hold
    choices: dict[int, dict[str, Any]] | None = None  # of an answer: text, tools, finish
    error: str = ""  # class, status and body
    raw: bytes = b""  # of the last reply
    broken: bool = False  # its connection did not end properly

    def told(self) -> str:
        """Return it in a line."""
        if self.end is not ViewEnd.ANSWER:
            return f"{self.end}: {self.error[:200]}"
        return f"answer: {json.dumps(self.said, ensure_ascii=False, default=str)[:600]}"


class Comparison(StrEnum):
    """How a call through the sidecar compares with one made directly."""

    SAME = "same"
    BETTER = "better"
    WORSE = "worse"
    DIFFERING = "differing"
    TRUNCATED = "truncated_unseen"


def expected_choices(script: FaultScript) -> dict[int, dict[str, Any]] | None:
    """Return what is in the script's whole answer; None where it is a refusal."""
    if script.turns[-1].kind is not TurnKind.ANSWER:
        return None
    return {
        index: {
            "content": "" if script.shape.tools else "".join(words_of(script, index)),
            "tools": [(f"call_{index}", *TOOL.values())] if script.shape.tools else [],
            "finish": finish_of(script),
        }
        for index in range(script.shape.n)
    }


def is_success(script: FaultScript, view: ScriptView) -> bool:
    """Return whether a view is the script's own answer, whole; or the refusal that it ends with."""
    expected = expected_choices(script)
    if expected is None:
        last = script.turns[-1]
        said = f" {last.status} ", f"'code': {last.code!r}"
        return view.end is ViewEnd.REFUSAL and all(part in view.error for part in said)
    return view.end is ViewEnd.ANSWER and view.choices == expected


def compare(script: FaultScript, direct: ScriptView, through: ScriptView) -> Comparison:
    """Return how the view through the sidecar compares with the direct one."""
    if is_cut_unseen(script, through):  # also where it is no better directly
        return Comparison.TRUNCATED
    direct_ok, through_ok = is_success(script, direct), is_success(script, through)
    if direct_ok and not through_ok:
        is_other = through.end is direct.end is ViewEnd.ANSWER
        return Comparison.DIFFERING if is_other else Comparison.WORSE
    if direct_ok:
        return Comparison.DIFFERING if _differ(direct, through) else Comparison.SAME
    if through_ok:
        return Comparison.BETTER
    is_silent = through.end is ViewEnd.ANSWER and not _tells(script, through)
    return Comparison.TRUNCATED if is_silent else Comparison.SAME


def _tells(script: FaultScript, view: ScriptView) -> bool:
    """Return whether an answer itself shows that something went wrong: no client overlooks it."""
    choices = list((view.choices or {}).values())
    if any(choice["finish"] == "error" for choice in choices):
        return True
    is_empty = not choices or any(not c["content"] and not c["tools"] for c in choices)
    return is_empty and not script.shape.streamed


def _differ(direct: ScriptView, through: ScriptView) -> bool:
    return (direct.said, direct.error) != (through.said, through.error)


def is_cut_unseen(script: FaultScript, view: ScriptView) -> bool:
    """Return whether a lenient reader takes less than the whole answer for all of it."""
    expected = expected_choices(script)
    if expected is None or not script.shape.streamed or script.shape.tools or view.broken:
        return False
    contents, seems_whole, told = read_leniently(view.raw)
    whole = {index: choice["content"] for index, choice in expected.items()}
    return seems_whole and not told and contents != whole


def read_leniently(raw: bytes) -> tuple[dict[int, str], bool, bool]:
    """Return the contents by choice, whether the stream seems whole, and whether it told an error.

    Bytes that are no stream at all say nothing.
    """
    contents: dict[int, str] = {}
    seems_whole = told = False
    for data in _data_of_events(raw):
        if data == "[DONE]":
            seems_whole = True
            continue
        try:
            value = json.loads(data)
        except ValueError:
            continue
        if not isinstance(value, dict):
            continue
        told |= bool(value.get("error"))
        for choice in value.get("choices") or ():
            told |= bool(choice.get("error")) or choice.get("finish_reason") == "error"
            seems_whole |= bool(choice.get("finish_reason"))
            text = (choice.get("delta") or {}).get("content") or ""
            contents[choice["index"]] = contents.get(choice["index"], "") + text
    return contents, seems_whole, told


def _data_of_events(raw: bytes) -> Iterator[str]:
    """Yield what each event holds; one without its blank line at the end counts as well."""
    lines: list[str] = []
    for line in [*re.split(r"\r\n|\r|\n", raw.decode("utf-8-sig", "replace")), ""]:
        if line.startswith("data:"):
            lines.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines.clear()


def view_of_chunks(chunks: Iterable[dict[str, Any]], raw: bytes) -> ScriptView:
    """Return the view of a stream that ended without an error, from the SDK's chunks."""
    said: dict[str, Any] = {"ids": [], "choices": {}, "usage": [], "extra": []}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        ids = [chunk.get("id"), chunk.get("model"), chunk.get("system_fingerprint")]
        if ids not in said["ids"]:
            said["ids"].append(ids)
        if chunk.get("usage"):
            said["usage"].append(chunk["usage"])
        if chunk.get("x_extra"):
            said["extra"].append(chunk["x_extra"])
        for choice in chunk.get("choices") or ():
            index = choice["index"]
            kept = choices.setdefault(index, {"content": "", "tools": [], "finish": None})
            delta = choice.get("delta") or {}
            kept["content"] += delta.get("content") or ""
            kept["finish"] = choice.get("finish_reason") or kept["finish"]
            _join_tools(kept["tools"], delta.get("tool_calls") or ())
            more = {k: v for k, v in delta.items() if k not in _JOINED and v is not None}
            if more:
                said["choices"].setdefault(index, []).append(more)
    said["joined"] = choices
    return ScriptView(ViewEnd.ANSWER, said, choices, raw=raw)


_JOINED = ("content", "tool_calls", "role")


def _join_tools(tools: list[tuple[str, str, str]], calls: Iterable[dict[str, Any]]) -> None:
    for call in calls:
        function = call.get("function") or {}
        if call.get("id"):
            tools.append((call["id"], function.get("name") or "", ""))
        if tools:
            name, called, arguments = tools[-1]
            tools[-1] = (name, called, arguments + (function.get("arguments") or ""))


def view_of_answer(said: Any, raw: bytes) -> ScriptView:
    """Return the view of an answer in one piece, from the SDK's object as values."""
    if not isinstance(said, dict) or not said.get("choices"):
        return ScriptView(ViewEnd.ANSWER, said, {}, raw=raw)
    choices = {}
    for choice in said["choices"]:
        message = choice.get("message") or {}
        calls = message.get("tool_calls") or ()
        choices[choice["index"]] = {
            "content": message.get("content") or "",
            "tools": [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in calls],
            "finish": choice.get("finish_reason"),
        }
    return ScriptView(ViewEnd.ANSWER, said, choices, raw=raw)
