"""Decisions as they are kept: small rows, packed column by column, and the parts that many share.

A row says what is of one decision alone and names the rest by digests of eight bytes: its *frame*
(app, task, strategy, who was drawn and why, fallbacks), and what the draw was made from. Nonces
and the batch's sessions stand in front as they are, so that a decision, or those of a session, are
looked for without unpacking anything.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Hashable, Iterable, Sequence
from typing import TypeVar

import msgspec

T = TypeVar("T", bound=Hashable)
DIGEST_BYTES = 8
NONCE_BYTES = 8
"""Of a decision's id, the first ones, all of them random; with its millisecond nobody else's."""
UNIT_BYTES = 4
"""Of a session's or slot's digest: with the millisecond of its draw it is told from all others."""
SESSION_BYTES = 6
"""Of an episode's digest: among a million another has them once in hundreds of millions."""
LAYOUT, WITHOUT_SESSIONS = 2, 1
"""First byte of a packed batch: of today's layout, and of the one before.

Earlier versions kept a zlib stream, which begins with `x`."""
NO_UNIT = bytes(UNIT_BYTES)
_HEAD = struct.Struct("<BH")  # layout, rows
_SESSIONS_HEAD = struct.Struct("<BHH")  # today's: sessions, too
_PLAIN, _DEFLATED = 0, 1
LEAST_DEFLATED = 128
"""Bytes: below this compressing saves nothing."""


class DecisionRow(msgspec.Struct, frozen=True):
    """What is kept of one decision alone; or, later, of who answered it in the end."""

    nonce: bytes
    decided_at_ms: int
    frame: bytes  # digest of the part that says all that others have in common with it
    unit: bytes = NO_UNIT  # digest of session or slot
    draw: bytes = b""  # digest of the numbers that it was made from; empty: it has none
    propensity: float = 1.0
    version: int = 0  # of the posteriors
    follows_ms: int = 0  # when the draw that it follows was made; 0: it follows none
    follows_version: int = 0
    is_answer: bool = False  # it says who answered, in its frame, and nothing else
    session: bytes = b""  # the first bytes of its episode's digest; empty: it is of none
    parts: tuple[bytes, ...] = ()  # all that it and its frame name; known until it is packed


class _Columns(msgspec.Struct, array_like=True):
    """A batch, column by column; what repeats is said once and then named by its place."""

    first_ms: int
    after_ms: list[int]  # since `first_ms`
    units: bytes
    frames: list[bytes]
    frame: list[int]
    draws: list[bytes]
    draw: list[int]
    propensities: list[float]
    propensity: list[int]
    versions: list[int]
    version: list[int]
    following: list[int] = []  # which rows follow a draw
    ago_ms: list[int] = []  # of each of these: how long before its own decision that was made
    followed: list[int] = []  # and under which version
    answers: list[int] = []  # which rows are answers
    session: list[int] = []  # place among the batch's sessions from 1, 0: none; as `_owners` says


_decode = msgspec.msgpack.Decoder(_Columns).decode


class PackedRows:
    """Packed rows, unpacked as far as they are asked for."""

    def __init__(self, packed: bytes) -> None:
        """Read what stands in front.

        Raises:
            ValueError: it is no batch of this layout.
        """
        try:
            layout, self._n = _HEAD.unpack_from(packed)
            self._nonces_at, n_sessions = _HEAD.size, 0
            if layout == LAYOUT:
                _, _, n_sessions = _SESSIONS_HEAD.unpack_from(packed)
                self._nonces_at = _SESSIONS_HEAD.size
        except struct.error as error:
            raise ValueError("a batch of decisions is damaged") from error
        if layout not in (LAYOUT, WITHOUT_SESSIONS):
            raise ValueError("a batch of decisions is damaged")
        self._sessions_at = self._nonces_at + NONCE_BYTES * self._n
        self._body_at = self._sessions_at + SESSION_BYTES * n_sessions
        self._packed = packed

    def named(self, beginning: bytes) -> list[int]:
        """Return the places of the rows whose nonce begins with these bytes, eight at most."""
        return _places(self._nonces(), beginning, each=NONCE_BYTES)

    def of_sessions(self, sessions: Iterable[bytes]) -> list[int]:
        """Return the places of the rows of these sessions; most often nothing is unpacked for it.

        Raises:
            ValueError: they are damaged.
        """
        told = self._packed[self._sessions_at : self._body_at]
        asked = {at + 1 for each in sessions for at in _places(told, each, each=SESSION_BYTES)}
        if not asked:
            return []
        return [i for i, own in enumerate(self._owners(self._columns())) if own in asked]

    def rows(self, places: Iterable[int] | None = None) -> list[DecisionRow]:
        """Return rows as they were packed: those at these places, or all.

        Raises:
            ValueError: they are damaged.
        """
        columns, nonces = self._columns(), self._nonces()
        sessions, owners = [b"", *self._sessions()], self._owners(columns)
        told = zip(columns.ago_ms, columns.followed, strict=True)
        follows = dict(zip(columns.following, told, strict=True))
        answers, out = set(columns.answers), []
        for i in range(self._n) if places is None else places:
            made_ms = columns.first_ms + columns.after_ms[i]
            ago_ms, followed = follows.get(i, (made_ms, 0))
            out.append(
                DecisionRow(
                    nonces[NONCE_BYTES * i : NONCE_BYTES * (i + 1)],
                    made_ms,
                    columns.frames[columns.frame[i]],
                    columns.units[UNIT_BYTES * i : UNIT_BYTES * (i + 1)],
                    columns.draws[columns.draw[i]],
                    columns.propensities[columns.propensity[i]],
                    columns.versions[columns.version[i]],
                    made_ms - ago_ms,
                    followed,
                    i in answers,
                    sessions[owners[i]],
                )
            )
        return out

    def made_at(self, at_ms: int) -> list[DecisionRow]:
        """Return the rows of decisions that were made in a millisecond.

        Raises:
            ValueError: they are damaged.
        """
        columns = self._columns()
        after_ms = at_ms - columns.first_ms
        return self.rows([i for i, own in enumerate(columns.after_ms) if own == after_ms])

    def _nonces(self) -> bytes:
        return self._packed[self._nonces_at : self._sessions_at]

    def _owners(self, columns: _Columns) -> Sequence[int]:
        """Return each row's place among the sessions, as `_session_column` packed it."""
        own = columns.session
        if len(own) == self._n or self._body_at == self._sessions_at:
            return own or [0] * self._n
        units = _split(columns.units, UNIT_BYTES)
        places = {unit: i for i, unit in enumerate(dict.fromkeys(units))}
        return [own[places[unit]] if own else places[unit] + 1 for unit in units]

    def _sessions(self) -> list[bytes]:
        return _split(self._packed[self._sessions_at : self._body_at], SESSION_BYTES)

    def _columns(self) -> _Columns:
        body = self._packed[self._body_at :]
        try:
            columns = _decode(zlib.decompress(body[1:]) if body[0] == _DEFLATED else body[1:])
        except (zlib.error, msgspec.MsgspecError, IndexError) as error:
            raise ValueError("a batch of decisions is damaged") from error
        return columns


def holds(packed: bytes, sessions: Collection[bytes]) -> bool:
    """Return whether a packed batch may have rows of these sessions; of another layout: no.

    Of a million batches nearly all are passed over by it, so it makes no more than it must.
    """
    if len(packed) < _SESSIONS_HEAD.size or packed[0] != LAYOUT:
        return False
    _, n, n_sessions = _SESSIONS_HEAD.unpack_from(packed)
    at = _SESSIONS_HEAD.size + NONCE_BYTES * n
    told = packed[at : at + SESSION_BYTES * n_sessions]
    return any(map(told.__contains__, sessions))


def by_second(rows: Iterable[DecisionRow]) -> list[tuple[int, list[DecisionRow]]]:
    """Return rows by the second of their decisions."""
    out: dict[int, list[DecisionRow]] = {}
    for row in rows:
        out.setdefault(row.decided_at_ms // 1000, []).append(row)
    return list(out.items())


class RowPacking:
    """Packs rows, the same ones in succession once: files and store get the same."""

    def __init__(self) -> None:
        self._last: tuple[list[DecisionRow], bytes] = ([], b"")

    def of(self, rows: list[DecisionRow]) -> bytes:
        """Return rows as `pack` does."""
        before, packed = self._last
        if rows != before:
            packed = pack(rows)
            self._last = rows, packed
        return packed


def pack(rows: Sequence[DecisionRow]) -> bytes:
    """Return rows as they are kept; at most 65,535."""
    first_ms = min(row.decided_at_ms for row in rows)
    following = [i for i, row in enumerate(rows) if row.follows_ms]
    (_, *sessions), (_, *owners) = _told_once([b"", *(row.session for row in rows)])
    columns = _Columns(
        first_ms,
        [row.decided_at_ms - first_ms for row in rows],
        b"".join(row.unit for row in rows),
        *_told_once([row.frame for row in rows]),
        *_told_once([row.draw for row in rows]),
        *_told_once([row.propensity for row in rows]),
        *_told_once([row.version for row in rows]),
        following,
        [rows[i].decided_at_ms - rows[i].follows_ms for i in following],
        [rows[i].follows_version for i in following],
        [i for i, row in enumerate(rows) if row.is_answer],
        _session_column([row.unit for row in rows], owners, len(sessions)),
    )
    body = msgspec.msgpack.encode(columns)
    kind, small = _PLAIN, body
    if len(body) >= LEAST_DEFLATED:
        kind, small = _DEFLATED, zlib.compress(body)
    nonces = b"".join(row.nonce[:NONCE_BYTES] for row in rows)
    head = _SESSIONS_HEAD.pack(LAYOUT, len(rows), len(sessions))
    return head + nonces + b"".join(sessions) + bytes([kind]) + small


def _session_column(units: Sequence[bytes], owners: Sequence[int], n_sessions: int) -> list[int]:
    """Return each row's place among the sessions, as short as the units, which tell it, allow.

    By unit, in their order, where all rows of each are of one session; nothing where these places
    are 1, 2, 3 …, or there is no session; else row by row.
    """
    by_unit = dict(zip(units, owners, strict=True))
    if any(by_unit[unit] != own for unit, own in zip(units, owners, strict=True)):
        return list(owners)
    told = list(by_unit.values())
    is_plain = not n_sessions or told == list(range(1, n_sessions + 1))
    return [] if is_plain else told


def _split(column: bytes, each: int) -> list[bytes]:
    return [column[at : at + each] for at in range(0, len(column), each)]


def _places(column: bytes, beginning: bytes, *, each: int) -> list[int]:
    """Return the places of the values in a column that begin with these bytes."""
    found, at = [], column.find(beginning)
    while at >= 0:
        if at % each == 0:
            found.append(at // each)
        at = column.find(beginning, at + 1)
    return found


def _told_once(values: Sequence[T]) -> tuple[list[T], list[int]]:
    """Return the distinct values, and by place which of them stands there."""
    places = {value: i for i, value in enumerate(dict.fromkeys(values))}
    return list(places), [places[value] for value in values]
