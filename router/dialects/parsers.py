"""How calls are read: by their path, or by what they look like where a path says nothing."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from router.dialects import chat, completions, embeddings, messages, responses
from router.dialects.body import NONE
from router.dialects.errors import dialect_of
from router.dialects.request import CallRequest
from router.endpoints.entries import Dialect

PARSERS: dict[str, Callable[[bytes], CallRequest]] = {
    "/v1/chat/completions": chat.parse,
    "/v1/messages": messages.parse,
    "/v1/responses": responses.parse,
    "/v1/embeddings": embeddings.parse,
    "/v1/completions": completions.parse,
}
"""By path: how a call of its dialect is read."""
COUNT_PATH = f"/v1/{Dialect.MESSAGES}/count_tokens"
CALLS = {path: dialect_of(path) for path in (*PARSERS, COUNT_PATH)}
"""By path: the dialect of what is decided here, where some endpoint speaks it."""


class _Shape(Struct):
    """What tells bodies of OpenAI's dialects apart."""

    messages: msgspec.Raw = NONE
    input: msgspec.Raw = NONE
    prompt: msgspec.Raw = NONE


def parse_alike(body: bytes, *, by_anthropics: bool) -> CallRequest:
    """Return what is read of a call whose path is not known.

    Args:
        by_anthropics: a client of Anthropic's sent it.

    Raises:
        RequestRejected: as in the parser of its dialect.
    """
    if by_anthropics:
        return messages.parse(body)
    try:
        shape = msgspec.json.decode(body, type=_Shape)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return chat.parse(body)
    if bytes(shape.messages) != b"null":
        return chat.parse(body)
    if bytes(shape.input) != b"null":
        return responses.parse(body)
    is_text = isinstance(msgspec.json.decode(shape.prompt), str | list)  # else a stored one
    return completions.parse(body) if is_text else chat.parse(body)
