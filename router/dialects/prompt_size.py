"""How large a prompt is where nobody counts it: its text, and what it shows.

An estimate, and rather too much than too little: nothing is decoded or fetched.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from telemetry.wire.reading import decode

PICTURE_TOKENS = 1600
"""The most that Anthropic counts for a picture: it makes larger ones smaller."""
PAGE_TOKENS = 3000
"""The most that Anthropic names for a page of a PDF, its picture included."""
PAGE_BYTES = 16 << 10
"""UNVALIDATED: of a PDF of text. One of pictures has fewer pages than this says."""
MOST_PAGES = 100
"""What a PDF may have at Anthropic."""
LINKED_PAGES = 10
"""UNVALIDATED: of a document that only its address is known of."""
PICTURES, DOCUMENTS = ("image_url", "input_image"), ("file", "input_file")
"""Types of parts in OpenAI's dialects."""
DATA = frozenset({"data", "file_data"})
"""Names under which parts hold what they show."""
HOLDERS = (b'"data:', b'"data"', b'"file_data"')
_ANY = msgspec.json.Decoder(Any)


class PromptSize(Struct, frozen=True):
    """What a prompt takes."""

    text_bytes: int  # all of it but what pictures and documents hold
    media_tokens: int


def size_of(body: bytes) -> PromptSize:
    """Return the size of a request that was read before."""
    held = tokens = 0
    if b'"source"' in body:
        for block in _blocks(decode(_ANY, body)):
            source = block["source"]
            data = source.get("data") if source.get("type") == "base64" else None
            n = len(data) if isinstance(data, str) else 0
            held += n
            tokens += PICTURE_TOKENS if block["type"] == "image" else _pages(source, n)
    return PromptSize(len(body) - held, tokens)


def media_tokens(body: bytes) -> int:
    """Return what the pictures and documents of a request take that was read before.

    In whichever dialect; a document that is not of Messages is one that nobody has counted.
    """
    if b'"source"' in body:
        return size_of(body).media_tokens
    return sum(map(_tokens_of, _parts(decode(_ANY, body))))


def text_bytes(body: bytes) -> int:
    """Return the size of a request without what pictures, sounds and documents hold, if read."""
    return len(body) - (_held(decode(_ANY, body)) if any(m in body for m in HOLDERS) else 0)


def _held(value: Any, name: str = "") -> int:
    """Return the bytes of data in it."""
    if isinstance(value, str):
        return len(value) if name in DATA or value.startswith("data:") else 0
    if isinstance(value, dict):
        return sum(_held(part, key) for key, part in value.items())
    return sum(_held(part, name) for part in value) if isinstance(value, list) else 0


def _tokens_of(kind: str) -> int:
    return PICTURE_TOKENS if kind in PICTURES else PAGE_TOKENS * LINKED_PAGES


def _parts(value: Any) -> Iterator[str]:
    """Yield the kinds of pictures and documents as OpenAI's dialects have them."""
    if isinstance(value, list):
        for each in value:
            yield from _parts(each)
    elif isinstance(value, dict):
        if (kind := value.get("type")) in PICTURES or kind in DOCUMENTS:
            yield kind
        for each in value.values():
            if isinstance(each, list | dict):
                yield from _parts(each)


def _pages(source: dict[str, Any], n_base64: int) -> int:
    """Return the tokens of a document; one of text is in the body."""
    if source.get("type") in ("text", "content"):
        return 0
    n = -(-n_base64 * 3 // 4 // PAGE_BYTES) if n_base64 else LINKED_PAGES
    return PAGE_TOKENS * min(n, MOST_PAGES)


def _blocks(value: Any) -> Iterator[dict[str, Any]]:
    """Yield pictures and documents, wherever they are."""
    if isinstance(value, list):
        for each in value:
            yield from _blocks(each)
    elif isinstance(value, dict):
        if value.get("type") in ("image", "document") and isinstance(value.get("source"), dict):
            yield value
        for each in value.values():
            if isinstance(each, list | dict):
                yield from _blocks(each)
