"""What the fold of feedback needs to know of a decision, and no more: 32 bytes of its 120.

Most of a token says the same as thousands of others: category, endpoint, app, release key, regime,
flags. Such a tuple is a *kind*, told once; a decision has the number of its kind. What the fold
does not read (strategy, session, propensity, what was drawn) is left out, and is 0 in the token
that is made of it again. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.errors import MalformedEvent
from telemetry.layouts import TOKEN
from telemetry.tokens import LAYOUT

KIND = np.dtype(
    [
        ("category", "<u8"),
        ("executed", "<u8"),
        ("app", "<u8"),
        ("release_key", "<u8"),
        ("regime", "<u4"),
        ("token_flags", "<u2"),
        ("role_mark", "<u2"),  # 0 where earlier versions wrote flags of four bytes
        ("token_version", "u1"),
    ]
)
DECISION = np.dtype(
    [
        ("nonce", "V16"),
        ("kind", "<u4"),  # its place in a table of KIND
        ("decided_s", "<u4"),  # whole seconds since the epoch; enough until 2106
        ("decided_ms", "<u2"),  # and the rest of it
        ("predicted", "<f2"),
        ("predicted_sd", "<f2"),
        ("spread", "<f2"),
    ]
)
DECISION_SIZE = DECISION.itemsize
USER_SIZE = 8
"""Bytes of a user's digest, behind a packed decision that has one."""
_BELIEFS = ("predicted", "predicted_sd", "spread")
"""As half floats: three digits, where the labels that they are compared with have one or two."""
_LEAST, _MOST = np.finfo(np.float16).smallest_subnormal, np.finfo(np.float16).max
_LAST_MS = (1 << 32) * 1000 - 1


@dataclass(frozen=True, slots=True)
class Decisions:
    """Decisions, each as short as the fold of feedback allows."""

    rows: NDArray[np.void]  # (n,) of DECISION
    kinds: NDArray[np.void]  # (n_kinds,) of KIND
    users: NDArray[np.uint64]  # (n,) keyed digests; 0 where none was named

    @classmethod
    def of(cls, tokens: NDArray[np.void]) -> Decisions:
        """Return the decisions of (n,) tokens of TOKEN, in their order; each kind is there once.

        Times before the epoch are taken as 0, those after 2106 as the last that there is.
        """
        own = np.zeros(len(tokens), dtype=KIND)
        for name in KIND.names or ():
            own[name] = tokens[name]
        places: dict[bytes, int] = {}
        numbers = [places.setdefault(kind, len(places)) for kind in _pieces(own)]
        rows = np.zeros(len(tokens), dtype=DECISION)
        rows["nonce"], rows["kind"] = tokens["nonce"], numbers
        decided = np.clip(tokens["decided_at_ms"], 0, _LAST_MS)
        rows["decided_s"], rows["decided_ms"] = np.divmod(decided, 1000)
        for name in _BELIEFS:
            rows[name] = _half(tokens[name])
        return cls(rows, np.frombuffer(b"".join(places), dtype=KIND), tokens["user"].copy())

    def part(self, picked: slice) -> Decisions:
        """Return some of them, with all kinds."""
        return Decisions(self.rows[picked], self.kinds, self.users[picked])

    @property
    def decided_at_ms(self) -> NDArray[np.int64]:
        """When they were made, in milliseconds since the epoch."""
        return decided_at_ms(self.rows)

    def to_tokens(self, shards: int | NDArray[Any] = 0) -> NDArray[np.void]:
        """Return them as (n,) tokens of TOKEN, of which only what the fold needs is not 0.

        Args:
            shards: of all of them, or (n,) of each.
        """
        out = np.zeros(len(self.rows), dtype=TOKEN)
        own = self.kinds.take(self.rows["kind"])
        for name in KIND.names or ():
            out[name] = own[name]
        for name in ("nonce", *_BELIEFS):
            out[name] = self.rows[name]
        out["layout"], out["shard"], out["drawn"] = LAYOUT, shards, own["executed"]
        out["decided_at_ms"], out["user"] = self.decided_at_ms, self.users
        return out

    def pack(self) -> list[bytes]:
        """Return each as 32 bytes, and 8 more where a user was named."""
        users = self.users.astype("<u8")
        each = zip(_pieces(self.rows), _pieces(users), users.tolist(), strict=True)
        return [row + raw if user else row for row, raw, user in each]

    def columns(self) -> Iterator[tuple[bool, NDArray[np.uint8]]]:
        """Yield whether users are named, and all decisions packed (n, n_bytes) as if so or not."""
        rows = self.rows.view(np.uint8).reshape(len(self.rows), -1)
        if (self.users == 0).any():
            yield False, rows
        if (self.users > 0).any():
            users = self.users.astype("<u8").view(np.uint8).reshape(len(self.users), -1)
            yield True, np.concatenate([rows, users], axis=1)

    @classmethod
    def unpack(cls, raws: Sequence[bytes], kinds: NDArray[np.void]) -> Decisions:
        """Return the decisions in packed ones.

        Args:
            kinds: the table of KIND that they were packed with.

        Raises:
            MalformedEvent: one has a wrong length, or a kind that the table does not have.
        """
        for raw in raws:
            if len(raw) not in (DECISION_SIZE, DECISION_SIZE + USER_SIZE):
                raise MalformedEvent(f"a packed decision of {len(raw)} bytes")
        rows = np.frombuffer(b"".join(raw[:DECISION_SIZE] for raw in raws), dtype=DECISION)
        if len(rows) and (most := int(rows["kind"].max())) >= len(kinds):
            raise MalformedEvent(f"a packed decision of kind {most}, of {len(kinds)}")
        users = b"".join(raw[DECISION_SIZE:] or bytes(USER_SIZE) for raw in raws)
        return cls(rows, kinds, np.frombuffer(users, dtype="<u8"))


def decided_at_ms(rows: NDArray[np.void]) -> NDArray[np.int64]:
    """Return when decisions were made, of any rows that have the fields of DECISION for it."""
    seconds = rows["decided_s"].astype(np.int64)
    return np.asarray(seconds * 1000 + rows["decided_ms"])


def _half(values: NDArray[Any]) -> NDArray[np.float16]:
    """Return half floats. What is above 0 stays so: a spread of 0 says nothing was expected."""
    out: NDArray[np.float16] = np.clip(values, -_MOST, _MOST).astype(np.float16)
    out[(values > 0) & (out == 0)] = _LEAST
    return out


def _pieces(values: NDArray[Any]) -> list[bytes]:
    found: list[bytes] = np.frombuffer(values.tobytes(), dtype=f"V{values.itemsize}").tolist()
    return found
