"""What of a request is compared with others: digests by which a later one continues it. Pure.

One conversation has one digest, however a client writes it: as text or as a single text part, with
nulls added, keys in another order, cache marks or reasoning left out. No text outlives the call:
what is handed on are keyed digests.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable
from hashlib import blake2b

from msgspec import Struct

from workers.observer.shapes import SORTED, Message, ReadRequest, ToolCall
from workers.observer.tool_results import is_error

MIN_WORDS, MAX_WORDS = 4, 200
"""What a person types and then corrects; longer texts are pasted or filled in by a template."""
MAX_TYPED_CHARS = 4096
LONG_ID_CHARS = 12
"""Ids from here on are random; shorter ones (`call_0`) mean something in one conversation only."""
NOTHING_MORE = bytes(16)
"""Stands for the digest of what else was asked for, where nothing was: so is nearly every chat."""
_WORD = re.compile(r"\w+")


class Conversation(Struct, frozen=True, gc=False):
    """What of a request's messages is compared with other calls."""

    whole: bytes  # digest of all messages
    before_edit: bytes | None
    """Of those before the last one, where that is a user's and an answer is among them."""
    before_answer: bytes | None  # of what the last assistant message was the answer to
    last_answer: bytes  # of that message
    words: bytes  # of the last message where a person may have typed it: sorted 4-byte hashes
    failed: tuple[bytes, ...]  # keys of the tool calls whose result is an error
    repeated: tuple[bytes, ...]  # calls that the last two turns made alike, with like results
    is_prefilled: bool  # the answer continues an assistant message


def call_key(call: ToolCall, asked: bytes, *, app_scope: bytes) -> bytes:
    """Return by what a tool call is known again when its result comes.

    Args:
        asked: digest of the messages that the call was an answer to.
        app_scope: secret of one app, so that ids mean nothing outside it.
    """
    where = b"" if len(call.id) >= LONG_ID_CHARS else asked + call.canonical()
    return blake2b(call.id.encode() + b"\0" + where, key=app_scope, digest_size=16).digest()


def _key_by_id(call_id: str, app_scope: bytes) -> bytes:
    """Return the key of a call that is not in the request: the right one where its id is long."""
    return call_key(ToolCall(call_id, "", ""), b"", app_scope=app_scope)


def answer_key(text: str, made: Iterable[bytes], *, scope: bytes) -> bytes:
    """Return by what an answer is known again in the history of a later request.

    Args:
        made: its tool calls in their canonical form.
    """
    told = SORTED.encode((text.strip(), sorted(made)))
    return blake2b(told, key=scope, digest_size=16).digest()


def read(request: ReadRequest, *, scope: bytes, app_scope: bytes) -> Conversation:
    """Return what of a request's messages is compared with other calls.

    Args:
        scope, app_scope: secrets (up to 64 bytes) of the unit and of its app; digests under
            different ones never match.
    """
    running = blake2b(request.goes_on_from.encode(), key=scope, digest_size=16)
    keys: dict[str, bytes] = {}
    failed: list[bytes] = []
    turns: list[tuple[tuple[bytes, ...], list[str]]] = []  # since the user last spoke
    before_edit = before_answer = None
    last_answer = b""
    last = request.messages[-1]
    for message in request.messages:
        text, calls = message.text.strip(), message.calls
        made = [call.canonical() for call in calls] if calls else []
        if message.role == "assistant":
            before_answer = running.digest()
            last_answer = answer_key(text, made, scope=scope)
            for call in calls:
                keys[call.id or call.name] = call_key(call, before_answer, app_scope=app_scope)
            turns.append((tuple(sorted(made)), []))
        elif message.role == "tool":
            if turns:
                turns[-1][1].append(text)
            key = keys.get(message.call_id or message.name)
            if key is None and request.is_partial:
                key = _key_by_id(message.call_id, app_scope)
            if key is not None and is_error(text, message.is_error):
                failed.append(key)
        elif message.role == "user":
            turns = []
            if message is last and before_answer is not None:  # else it begins anew
                before_edit = running.digest()
        running.update(_canonical(message, text, made))
    return Conversation(
        whole=running.digest(),
        before_edit=before_edit,
        before_answer=before_answer,
        last_answer=last_answer,
        words=b"" if before_edit is None else _words(last, app_scope),
        failed=tuple(failed),
        repeated=turns[-1][0] if len(turns) >= 2 and turns[-1] == turns[-2] else (),
        is_prefilled=last.role == "assistant",
    )


def asked_for(request: ReadRequest) -> bytes:
    """Return a digest of what else makes two requests with the same messages different ones."""
    if not request.tools and request.choice is None and not request.form:
        return NOTHING_MORE
    told = SORTED.encode([list(request.tools), request.choice, request.form, request.schema])
    return blake2b(told, digest_size=16).digest()


def similarity(words: bytes, others: bytes) -> float:
    """Return the Jaccard index of two sets of words; 0 where one of them was not kept."""
    one, other = set(memoryview(words).cast("I")), set(memoryview(others).cast("I"))
    return len(one & other) / len(one | other) if one and other else 0.0


def _canonical(message: Message, text: str, made: list[bytes]) -> bytes:
    said = (
        [(call.id, written) for call, written in zip(message.calls, made, strict=True)]
        if made
        else made
    )
    names = message.call_id, message.name, message.refusal
    return SORTED.encode((message.role, text, message.others, said, names))


def _words(message: Message, salt: bytes) -> bytes:
    if message.others or len(message.text) > MAX_TYPED_CHARS:
        return b""
    seed = int.from_bytes(salt[:4], "big")
    words = {zlib.crc32(word.encode(), seed) for word in set(_WORD.findall(message.text.lower()))}
    return array("I", sorted(words)).tobytes() if MIN_WORDS <= len(words) <= MAX_WORDS else b""
