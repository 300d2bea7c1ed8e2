"""Which reader and which writer an answer goes through."""

from __future__ import annotations

from typing import Any

from router.dialects.chat_stream import ChatStream
from router.dialects.messages_stream import MessagesStream
from router.dialects.stream import AnswerStream
from router.endpoints.entries import Dialect
from router.translation import chat_answer, messages_answer, responses_answer
from router.translation.chat_events import ChatEventReader, ChatEventWriter
from router.translation.event_writer import EventWriter
from router.translation.fitting import Fitting
from router.translation.messages_events import MessagesEventReader, MessagesEventWriter
from router.translation.prompt import Prompt
from router.translation.responses_events import ResponsesEventWriter
from router.translation.stream import TranslatedStream


def translated_answer(
    body: bytes,
    *,
    speaks: Dialect,
    to: Dialect,
    asked: Prompt,
    echo: dict[str, Any],
    created: int,
) -> bytes | None:
    """Return a whole answer in the caller's dialect; None where there is no answer in it.

    Args:
        speaks: what the endpoint speaks: chat or messages.
        to: what the caller speaks.
        asked: what was asked.
        echo: the caller's own request, as an object.
        created: when the answer was made, in seconds since 1970.
    """
    read = messages_answer.read if speaks is Dialect.MESSAGES else chat_answer.read
    answer = read(body)
    if answer is None:
        return None
    answer = _fitting(speaks, to, asked).answer(answer)
    if to is Dialect.MESSAGES:
        return messages_answer.write(answer, asked)
    if to is Dialect.RESPONSES:
        return responses_answer.write(answer, asked, echo, created=created)
    return chat_answer.write(answer, created=created)


def translated_stream(
    *,
    speaks: Dialect,
    to: Dialect,
    asked: Prompt,
    echo: dict[str, Any],
    created: int,
    shows_usage: bool,
    told: AnswerStream | None = None,
) -> TranslatedStream:
    """Return what reads a stream of an endpoint and passes it on as the caller speaks.

    Args:
        shows_usage: a caller of Chat Completions asked for the chunk that tells of it.
        told: reads what the caller is told, where that may hold thoughts.
    """
    writer: EventWriter
    fitting = _fitting(speaks, to, asked)
    if to is Dialect.MESSAGES:
        writer = MessagesEventWriter(fitting, shows_thinking=asked.shows_thinking)
    elif to is Dialect.RESPONSES:
        shown = asked.shows_thinking
        writer = ResponsesEventWriter(fitting, echo=echo, created=created, shows_thinking=shown)
    else:
        writer = ChatEventWriter(fitting, created=created, shows_usage=shows_usage)
    if speaks is Dialect.MESSAGES:
        native, reader = MessagesStream(), MessagesEventReader()
        return TranslatedStream(native, reader, writer, speaks=speaks, to=to, told=told)
    chunks = ChatStream(hide_usage=False)
    return TranslatedStream(chunks, ChatEventReader(), writer, speaks=speaks, to=to, told=told)


def _fitting(speaks: Dialect, to: Dialect, asked: Prompt) -> Fitting:
    return Fitting(asked, any_id=Dialect.MESSAGES not in (speaks, to))
