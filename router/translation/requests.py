"""Requests between dialects: read in the caller's, written in the endpoint's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.endpoints.entries import Dialect
from router.translation import (
    chat_request_reader,
    chat_request_writer,
    messages_request_reader,
    messages_request_writer,
    responses_request,
)
from router.translation.exact import decoded
from router.translation.prompt import Manner, Prompt, Untranslatable, Written

READERS: dict[Dialect, Callable[[dict[str, Any]], Prompt]] = {
    Dialect.CHAT: chat_request_reader.read,
    Dialect.MESSAGES: messages_request_reader.read,
    Dialect.RESPONSES: responses_request.read,
}
WRITERS: dict[Dialect, Callable[[Prompt, Manner], Written]] = {
    Dialect.CHAT: chat_request_writer.write,
    Dialect.MESSAGES: messages_request_writer.write,
}
"""Nothing is said in Responses: who speaks it speaks another dialect, too."""
TOO_DEEP = "is nested too deeply"


def read(dialect: Dialect, body: bytes) -> Prompt:
    """Return what the body of a request says.

    Raises:
        Untranslatable: it is no JSON, or something in it is no part of what translations know.
    """
    if dialect not in READERS:
        raise Untranslatable("body", f"no request in {dialect} is translated")
    try:
        found = decoded(body.decode("utf-8-sig"))
        if not isinstance(found, dict):
            raise Untranslatable("body", "is no object")
        return READERS[dialect](found)
    except ValueError as error:
        raise Untranslatable("body", f"is not JSON: {error}") from None
    except RecursionError:
        raise Untranslatable("body", TOO_DEEP) from None


def write(prompt: Prompt, to: Dialect, manner: Manner) -> Written:
    """Return a request as a dialect says it.

    Raises:
        Untranslatable: something of it cannot be said so.
    """
    if to not in WRITERS:
        raise Untranslatable("body", f"nothing is translated to {to}")
    try:
        return WRITERS[to](prompt, manner)
    except RecursionError:
        raise Untranslatable("body", TOO_DEEP) from None
