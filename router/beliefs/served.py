"""Which models answer: the names and fingerprints that answers carry, beside what was asked for.

Kept in the process, and summed over all of them in the store. Nobody is kept away by it: an
answer that names another model than it should is told of, once, and counted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import structlog

from router.config.masking import masked
from router.endpoints.catalog import Endpoint
from router.endpoints.key_pieces import holds_piece
from router.endpoints.model_names import is_any_of
from telemetry import keys
from telemetry.digests import digest8
from telemetry.store import Client, StoreErrors

log = structlog.get_logger()

MAX_NAMES = 16
"""Of an endpoint, and as many fingerprints; the rest is counted together."""
MAX_MET = 64
"""Pairs of name and fingerprint of which is known what they are, at a time."""
MAX_KEPT = 256
"""Characters of such a pair: what is longer is looked at each time."""
REST = "…"
HIDDEN_KEY = "@key"
"""In place of a name that holds a key: who is called with one may say it in any field."""
EVERY_S = 5.0
"""Between two exchanges with the store."""
_PLAIN = re.compile(r"[A-Za-z0-9._/@:+-]{1,60}")
"""How names of models are written; what is written otherwise is shown as a digest."""
_STORED = re.compile(
    rb"(?P<what>n_stored|since_ms|last_ms):(?P<endpoint>[0-9a-f]{16}):"
    rb"(?P<imprint>model|fingerprint):(?P<name>[A-Za-z0-9._/@:+-]{1,60}|\xe2\x80\xa6)"
)
"""What the store has of each name and fingerprint."""


class Imprint(StrEnum):
    """What an answer carries of who made it."""

    MODEL = "model"
    FINGERPRINT = "fingerprint"  # of the system that served: a digest here, whatever it holds


@dataclass(slots=True, eq=False)
class Served:
    """The answers of an endpoint that carry one name, or one fingerprint."""

    since_ms: int
    last_ms: int
    n_here: int = 0  # in this process
    n_written: int = 0  # of those, what the store knows
    n_stored: int = 0  # in all processes, as last read

    @property
    def calls(self) -> int:
        """How many, as far as is known here."""
        return self.n_stored + self.n_here - self.n_written


class Seen(NamedTuple):
    """What an answer says of who made it."""

    is_other: bool = False  # another model than was asked for
    model: int = 0  # digests; 0: it says nothing
    fingerprint: int = 0


NOTHING_SEEN = Seen()


@dataclass(slots=True, eq=False)
class _Known:
    """What is known of one endpoint."""

    served_as: tuple[str, ...] | None = None  # what the rest was judged by
    met: dict[tuple[str | None, str | None], tuple[Seen, tuple[Served, ...]]] = field(
        default_factory=dict
    )
    """By what an answer says; most answers are like one before."""
    marks: dict[Imprint, dict[str, Served]] = field(
        default_factory=lambda: {imprint: {} for imprint in Imprint}
    )


class ServedModels:
    """Of all endpoints; calls note, a thread of the keeper's exchanges with the store."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}
        self._next = 0.0  # monotonic seconds

    def note(self, endpoint: Endpoint, model: str | None, fingerprint: str | None) -> Seen:
        """Take note of what an answer says of who made it; the first of a kind is logged."""
        known = self._known.get(endpoint.digest)
        if known is None:
            known = self._known.setdefault(endpoint.digest, _Known())
        if known.served_as is not endpoint.served_as:
            known.served_as = endpoint.served_as
            known.met.clear()
        found = known.met.get((model, fingerprint))
        if found is None:
            found = _meet(endpoint, known, model, fingerprint)
        seen, entries = found
        for entry in entries:
            entry.n_here += 1
        return seen

    @staticmethod
    def look(endpoint: Endpoint, model: str | None, fingerprint: str | None) -> Seen:
        """Return what an answer says of who made it, of which no note is taken."""
        name, sign = _shown(endpoint, model, fingerprint)
        return _seen(endpoint, model, name, sign)

    def of(self, endpoint: Endpoint, mark: Imprint) -> dict[str, Served]:
        """Return what an endpoint's answers carried, by name, the first seen first."""
        known = self._known.get(endpoint.digest)
        found = list(known.marks[mark].items()) if known is not None else []
        return dict(sorted(found, key=lambda item: item[1].since_ms))

    def exchange(self, client: Client) -> None:
        """Tell the store what is new, and learn what others told; at most every few seconds.

        A store that is away or full is told the next time.
        """
        now = time.monotonic()
        if now >= self._next:
            self._next = now + EVERY_S
            with suppress(*StoreErrors):
                self._write(client)
                self.read(client)

    def read(self, client: Client) -> None:
        """Take over what all processes have told.

        Raises:
            redis.RedisError: the store is away.
        """
        unfit = []
        for name, value in client.hgetall(keys.SERVED).items():
            found = _STORED.fullmatch(name)
            if found is not None and value.isdigit():
                known = self._known.setdefault(int(found["endpoint"], 16), _Known())
                imprint, shown = Imprint(found["imprint"].decode()), found["name"].decode()
                entries = known.marks[imprint]
                if shown not in entries and imprint is Imprint.MODEL and masked(shown) != shown:
                    unfit.append(name)  # of a time when such names were kept
                    continue
                entry = entries.setdefault(shown, Served(0, 0))
                setattr(entry, found["what"].decode(), int(value))
        if unfit:
            client.hdel(keys.SERVED, *unfit)

    def _write(self, client: Client) -> None:
        pipeline, told, now_ms = client.pipeline(transaction=False), [], _now_ms()
        for place, entry in self._entries():
            n = entry.n_here
            if n > entry.n_written:
                entry.last_ms = now_ms
                pipeline.hincrby(keys.SERVED, f"n_stored:{place}", n - entry.n_written)
                pipeline.hsetnx(keys.SERVED, f"since_ms:{place}", str(entry.since_ms))
                pipeline.hset(keys.SERVED, f"last_ms:{place}", str(now_ms))
                told.append((entry, n))
        if told:
            pipeline.execute()
        for entry, n in told:
            entry.n_stored += n - entry.n_written
            entry.n_written = n

    def _entries(self) -> Iterator[tuple[str, Served]]:
        for digest, known in list(self._known.items()):
            for mark, entries in known.marks.items():
                for shown, entry in list(entries.items()):
                    yield f"{digest:016x}:{mark.value}:{shown}", entry


def is_other_model(endpoint: Endpoint, name: str) -> bool:
    """Return whether answers of this name are of another model than was asked for."""
    return endpoint.served_as is not None and not is_any_of(name, endpoint.served_as)


def shown_name(model: str) -> str:
    """Return a model's name as it may be shown; of what is no name, a digest."""
    return model if _PLAIN.fullmatch(model) else f"@{digest8(model):016x}"


def _meet(
    endpoint: Endpoint, known: _Known, model: str | None, fingerprint: str | None
) -> tuple[Seen, tuple[Served, ...]]:
    """Look at an answer that says what none lately did."""
    name, sign = _shown(endpoint, model, fingerprint)
    seen, entries = _seen(endpoint, model, name, sign), []
    if name is not None:
        entries.append(_entry(endpoint, known, Imprint.MODEL, name, is_other=seen.is_other))
    if sign is not None:
        entries.append(_entry(endpoint, known, Imprint.FINGERPRINT, sign))
    if len(known.met) >= MAX_MET:
        known.met.clear()
    if len(model or "") + len(fingerprint or "") <= MAX_KEPT:
        known.met[model, fingerprint] = seen, tuple(entries)
    return seen, tuple(entries)


def holds_key(endpoint: Endpoint, text: str) -> bool:
    """Return whether a text holds a piece of the key of its endpoint, or a key like others.

    What is configured as a name of its model is a name, whatever it looks like.
    """
    if text in (endpoint.upstream_model, *(endpoint.served_as or ())):
        return False
    return masked(text) != text or holds_piece(text[:MAX_KEPT], endpoint.auth_header)


def _shown(
    endpoint: Endpoint, model: str | None, fingerprint: str | None
) -> tuple[str | None, str | None]:
    """Return both as they are shown; None where an answer says nothing."""
    name = None
    if model is not None:
        name = HIDDEN_KEY if holds_key(endpoint, model) else shown_name(model)
    return name, f"{digest8(fingerprint):016x}" if fingerprint is not None else None


def _seen(endpoint: Endpoint, said: str | None, name: str | None, sign: str | None) -> Seen:
    judged = said if name == HIDDEN_KEY else name  # who looks like a key may be the model meant
    is_other = judged is not None and is_other_model(endpoint, judged)
    return Seen(is_other, digest8(name) if name else 0, int(sign, 16) if sign else 0)


def _entry(
    endpoint: Endpoint, known: _Known, mark: Imprint, shown: str, *, is_other: bool = False
) -> Served:
    """Return where answers of this name are counted; of a new one the log is told."""
    entries = known.marks[mark]
    found = entries.get(shown)
    is_first_here = found is None or not found.n_here
    if found is None:
        if len(entries) >= MAX_NAMES and (shown := REST) in entries:
            return entries[shown]
        before = max(entries, key=lambda name: entries[name].last_ms, default=None)
        found = entries[shown] = Served(_now_ms(), _now_ms())
        if before is not None and not is_other and endpoint.served_as is not None:
            tell = log.warning if mark is Imprint.MODEL else log.info
            tell(
                f"an endpoint's answers carry a {mark.value} that they did not carry before",
                endpoint=endpoint.id,
                before=before,
                now=shown,
            )
    if is_first_here and is_other:
        log.warning(
            "an endpoint's answers name another model than was asked for",
            endpoint=endpoint.id,
            asked=endpoint.upstream_model,
            served_as=shown,
            fix="list it under served_as of the endpoint where that is right",
        )
    return found


def _now_ms() -> int:
    return int(time.time() * 1000)
