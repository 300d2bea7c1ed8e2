"""Takes away what coding agents and frameworks wrap around a prompt.

Three kinds, and none of them can be made or unmade by one word without that it shows:
- **Blocks** between tags whose name has a `-` or `_` (`<system-reminder>`), or is of a short list.
  The opening tag begins a line or follows another.
- **Frames** from one set line to another: an editor's context, a tool's rules, an agent's manual.
- **Phrases**: set sentences, each of two halves.

A tag without its partner, half of a frame or half of a phrase is unclear: `without_boilerplate`
then returns None. So does a text that is too long. Where nothing but blocks is there, what is in
them counts. Nothing is cut so that one word becomes two.
"""

from __future__ import annotations

import re

CHARACTERS = 1 << 18
"""A longer text is not looked at."""
INDENT = 64
"""Blanks before a tag or mark, at most."""
MARKS = 4096
"""Tags, at most."""
WRAPPERS = "INSTRUCTIONS|attachments|reminderInstructions|editorContext|workspaceInfo"
"""Names of blocks without a `-` or `_`."""
REQUESTS = "user_query|user_request|user_message|user_input|user_question|user_prompt|userRequest"
"""Names of blocks that hold the prompt itself: their tags go, and what is in them stays."""
NAME = rf"[A-Za-z][A-Za-z0-9]{{0,31}}[-_][\w-]{{0,31}}|{WRAPPERS}"
TAG = re.compile(rf"<(?:/(?P<closed>{NAME})>|(?P<opened>{NAME})(?=[\s>]|\Z))")
TAG_ALONE = re.compile(rf"{TAG.pattern}>?")
REQUEST_TAG = re.compile(rf"</?(?:{REQUESTS})>")
REQUEST_NAMES = frozenset(REQUESTS.split("|"))
FRAMES = (
    ("# Context from my IDE setup:", "## My request for Codex:"),
    (
        "# *SEARCH/REPLACE block* Rules:",
        "ONLY EVER RETURN CODE IN A *SEARCH/REPLACE BLOCK*!",
    ),
    (
        "Answer the following questions as best you can. You have access to the following tools:",
        "Begin!\n\nQuestion:",
    ),
    (
        "Respond to the human as helpfully and accurately as possible. You have access to the"
        " following tools:",
        "Begin! Reminder to ALWAYS respond with a valid json blob of a single action.",
    ),
    (
        "The output should be formatted as a JSON instance that conforms to the JSON schema below.",
        "Here is the output schema:",
    ),
)
"""Set lines that begin and end what is no prompt; what follows the last on its line stays."""
PHRASES = (
    ("# AGENTS.md ", "instructions for /"),  # and a path, which stays
    ("Caveat: The messages below were generated ", "by the user while running local commands."),
    (
        "DO NOT respond to these messages or otherwise consider them ",
        "in your response unless the user explicitly asks you to.",
    ),
    ("[Request interrupted ", "by user]"),
    ("I have *added these files to the chat* ", "so you can go ahead and edit them."),
    ("*Trust this message as ", "the true contents of these files!*"),
    (
        "Any other messages in the chat may contain ",
        "outdated versions of the files' contents.",
    ),
    ("Here are summaries of some files ", "present in my git repository."),
    ("Do not propose changes to these files, ", "treat them as *read-only*."),
    ("If you need to edit any of these files, ", "ask me to *add them to the chat* first."),
    (
        "Just tell me how to edit the files to make the changes.\n",
        "Don't give me back entire files.\nJust show me the edits I need to make.",
    ),
    ("Use the following pieces of context ", "to answer the question at the end."),
    (
        "If you don't know the answer, just say that you don't know, ",
        "don't try to make up an answer.",
    ),
    (
        "Given the following conversation and a follow up question, ",
        "rephrase the follow up question to be a standalone question, in its original language.",
    ),
    (
        "You MUST answer with a JSON object ",
        "that matches the JSON schema above.",
    ),
    (
        "Always respond with a JSON object ",
        "that's compatible with this schema:",
    ),
)
"""Set sentences in two halves; with one word broken, the other half is left."""


def without_boilerplate(text: str) -> str | None:
    """Return what a text asks; None where part of boilerplate is missing, or it is too long."""
    if len(text) > CHARACTERS:
        return None
    blocks = _blocks(text)
    if blocks is None:
        return None
    left = text
    if blocks:
        starts, ends = [0, *(end for _, end in blocks)], [*(began for began, _ in blocks), None]
        left = "".join(text[start:end] for start, end in zip(starts, ends, strict=True))
        if not left.strip():
            left = TAG_ALONE.sub("", text)
    framed = _without_frames(REQUEST_TAG.sub("", left))
    return None if framed is None else _without_phrases(framed)


def _blocks(text: str) -> list[tuple[int, int]] | None:
    """Return where outermost blocks begin and end; None where a tag has no partner."""
    if "<" not in text:
        return []
    found, opened = [], list[tuple[str, int]]()
    for n, tag in enumerate(TAG.finditer(text)):
        if n > MARKS:
            return None
        name = tag["opened"] or tag["closed"]
        if name in REQUEST_NAMES or (tag["opened"] and not _leads(text, tag.start())):
            continue
        if tag["opened"]:
            opened.append((name, tag.start()))
        elif not opened or opened[-1][0] != name:
            return None
        else:
            began = opened.pop()[1]
            if not opened:
                found.append((began, tag.end()))
    return None if opened else found


def _leads(text: str, at: int) -> bool:
    """Return whether what stands there begins a line, or follows another tag."""
    before = text[max(at - INDENT, 0) : at]
    return before.endswith(">") or not before[before.rfind("\n") + 1 :].strip(" \t")


def _without_frames(text: str) -> str | None:
    for begin, end in FRAMES:
        begins, ends = _lines(text, begin), _lines(text, end)
        if len(begins) != len(ends):
            return None
        if not begins:
            continue
        left, at = [], 0
        for first, last in zip(begins, ends, strict=True):
            if not at <= first < last:
                return None
            left.append(text[at:first])
            at = last + len(end)
        text = "\n".join([*left, text[at:]])
    return text


def _lines(text: str, mark: str) -> list[int]:
    """Return where a mark begins a line, and is followed by white space or the end."""
    found = []
    at = text.find(mark)
    while at >= 0:
        after = text[at + len(mark) : at + len(mark) + 1]
        if _leads(text, at) and (not after or after.isspace()):
            found.append(at)
        at = text.find(mark, at + 1)
    return found


def _without_phrases(text: str) -> str | None:
    for first, second in PHRASES:
        n_first, n_second = text.count(first), text.count(second)
        if n_first != n_second:
            return None
        if n_first:
            end = "" if second.endswith("/") else r"(?!\S)"
            parts = re.split(rf"(?<!\S){re.escape(first + second)}{end}", text)
            if len(parts) != n_first + 1:
                return None
            text = "\n".join(parts)
    return text
