"""What a call keeps at its provider, or has the provider pass on, beside being answered.

It is read off the top level of a body, and off the types of its tools. What is not known to keep
nothing keeps: a tool of tomorrow, a path that nobody listed, a body that cannot be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self

import msgspec
from msgspec import Raw, Struct

from router.dialects.fields import encoded, top_level
from router.dialects.offered import offered_tools
from router.dialects.tool_keeping import tools_keep, unnamed
from router.endpoints.catalog import CALL_PATHS, Endpoint
from router.endpoints.entries import Dialect

NAMES = {
    "store": "the answer is kept under its id",
    "background": "the answer is worked out, and kept, after the call has ended",
    "conversation": "the turn is added to a conversation or thread that the provider keeps",
    "prompt": "a prompt that lies at the provider, with tools that are not seen here",
    "container": "a container in which files are left",
    "audio": "a spoken answer, kept so that a later turn can name it",
    "web_search": "searches, with words of the call",
    "web_fetch": "pages, fetched by addresses that the model makes up",
    "file_search": "searches in files and collections that lie at the provider",
    "mcp": "tools of another server, called by the provider",
    "code_execution": "code, run in a container of the provider",
    "unread": "a body that could not be read",
}
"""All there are, beside `tool:<type>` of any other tool that the provider runs."""
KEEP_NOTHING = frozenset(
    {
        *("chat/completions", "completions", "fim/completions", "complete"),
        *("messages", "messages/count_tokens"),
        *("responses", "responses/compact", "responses/input_tokens"),
        *("embeddings", "moderations", "rerank", "score", "classify", "tokenize", "detokenize"),
        *("images/generations", "images/edits", "images/variations"),
        *("audio/speech", "audio/transcriptions", "audio/translations"),
    }
)
"""POSTs below the version that keep nothing unless their bodies say so."""
READING = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
CALLS = {f"/v1/{path}": dialect for dialect, path in CALL_PATHS.items()}
"""Where bodies may say so."""
SWITCHES = {
    "background": "background",
    "conversation": "conversation",
    "thread": "conversation",
    "container": "container",
    "mcp_servers": "mcp",
    "web_search_options": "web_search",
    "search_parameters": "web_search",
    "enable_search": "web_search",
}
"""Fields that ask for it by being there at all, some of them those of other providers."""
FIELDS = frozenset(
    {
        *SWITCHES,
        *("store", "prompt", "audio", "modalities", "plugins"),
        *("tools", "input", "messages"),
    }
)
"""All that is looked at."""
_NULL_STORE = re.compile(rb'"store"(\s*:\s*)null')


class Keeping(Struct, frozen=True):
    """One thing that a call keeps, or has passed on."""

    name: str
    """One of `NAMES`, or `tool:<type>`."""
    asked: bool = True
    """The caller said so; else it is what the dialect does where nothing is said."""


UNREAD = (Keeping("unread"),)


class KeepingCall:
    """The part of a request that tells what it keeps."""

    __slots__ = ("_keeping",)

    dialect: ClassVar[Dialect]
    body: bytes
    _keeping: tuple[Keeping, ...] | None  # None: not looked for yet

    @property
    def keeping(self) -> Sequence[Keeping]:
        """What it keeps at its provider, or has passed on, beside being answered."""
        if self._keeping is None:
            self._keeping = keeping_in(self.dialect, top_level(self.body))
        return self._keeping

    def keeping_at(self, endpoint: Endpoint) -> Sequence[Keeping]:
        """Return the same of what an endpoint gets, whose `params` may say otherwise."""
        if FIELDS.isdisjoint(endpoint.params):
            return self.keeping
        return keeping_in(self.dialect, {**top_level(self.body), **endpoint.params})

    def offered(self) -> list[str]:
        """Return the names of all tools in it."""
        return offered_tools(self.body)

    def kept_nowhere(self) -> Self:
        """Return it without what is kept by default alone: in most dialects nothing is."""
        return self


def keeps(method: str, path: str) -> bool:
    """Return whether a call that is passed on keeps something, whatever its body says.

    Args:
        path: decoded, from the version on: `/v1/files`.
    """
    if method in READING:
        return False
    return method != "POST" or path.removeprefix("/v1/") not in KEEP_NOTHING


def keeping_of(path: str, top: Mapping[str, Raw] | None) -> tuple[Keeping, ...]:
    """Return what a body keeps that comes at a path; what the path itself keeps aside.

    Args:
        top: its top level; None: it could not be read.
    """
    dialect = CALLS.get(path)
    if dialect is None:
        return ()
    return UNREAD if top is None else keeping_in(dialect, top)


def keeping_in(dialect: Dialect, fields: Mapping[str, Raw | bytes]) -> tuple[Keeping, ...]:
    """Return what a body keeps by the fields of its top level, each thing once."""
    said = {name: _value(fields[name]) for name in SWITCHES if name in fields}
    found = [name for field, name in SWITCHES.items() if _asks(field, said.get(field))]
    store = _value(fields.get("store", b"null"))
    is_default = dialect is Dialect.RESPONSES and store is None
    if is_default and "background" in found:  # it cannot be without
        found.append("store")
        is_default = False
    elif not is_default and _holds(store):
        found.append("store")
    found += _others(fields)
    found += tools_keep(dialect, fields)
    default = [Keeping("store", asked=False)] if is_default else []
    return (*default, *map(Keeping, dict.fromkeys(found)))


def with_store_off(body: bytes) -> bytes:
    """Return the body of a request in which nothing is said of `store`, with `store: false`.

    Every other byte is as it came, but where null is said in an odd way: then the space between
    fields may be lost.
    """
    top = top_level(body)
    if "store" not in top:
        start = body.index(b"{") + 1
        return body[:start] + b'"store":false' + (b"," if top else b"") + body[start:]
    if len(_NULL_STORE.findall(body)) == 1:
        changed = _NULL_STORE.sub(rb'"store"\1false', body)
        if bytes(top_level(changed)["store"]) == b"false":  # it was not one further in
            return changed
    top["store"] = Raw(b"false")
    return encoded(top)


def _value(raw: Raw | bytes) -> Any:
    """Return a value; True where it cannot be read."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return True


def _holds(value: Any) -> bool:
    return value is not None and value is not False and value not in ("", [])


def _asks(field: str, value: Any) -> bool:
    is_off = field == "search_parameters" and isinstance(value, dict) and value.get("mode") == "off"
    return _holds(value) and not is_off


def _others(fields: Mapping[str, Raw | bytes]) -> Iterator[str]:
    """Yield what fields ask for that are not mere switches."""
    if bytes(fields.get("prompt", b""))[:1] == b"{":  # text is what legacy completions go on from
        yield "prompt"
    modalities = _value(fields.get("modalities", b"null"))
    speaks = modalities is True or (isinstance(modalities, list) and "audio" in modalities)
    if speaks or _holds(_value(fields.get("audio", b"null"))):
        yield "audio"
    plugins = _value(fields.get("plugins", b"null"))
    if not isinstance(plugins, list):
        plugins = [plugins] if _holds(plugins) else []
    for one in plugins:
        kind = one.get("id") if isinstance(one, dict) else None
        yield "web_search" if kind == "web" else unnamed(kind)
