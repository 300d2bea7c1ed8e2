"""The records of the audit trail: what is about to leave, and which configuration is in force.

They are as wide as every other record and go the same way, on a stream of their own that follows
those of the shards and that no learner reads. So they have numbers of their own as well: one that
is missing is one of these.

- An *intent* says, before the first byte goes out, that content of a sensitive class is about to
  be sent somewhere. It names class, endpoint, zone, app and configuration; no prompt and no user.
- A *configuration* record is a part of what one process says of the configuration that it goes by:
  its hard constraints as JSON, compressed and cut into as many records as that takes.
"""

from __future__ import annotations

import secrets
import struct
import zlib
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry.events import CONFIGURATION, INTENT, RECORD_SIZE
from telemetry.frames import SHARD_OFFSET

TRAIL_VERSION = 1
NAME_BYTES, ENDPOINT_BYTES = 64, 96
PART_BYTES = 304
"""Of compressed JSON in a record: that of ten endpoints takes two or three."""
NOWHERE = ""
"""The zone of an endpoint that declares none."""

_HEAD = [
    ("kind", "u1"),
    ("trail_version", "u1"),
    ("attempt", "u1"),  # of an intent; of a configuration its `TrailWord`
    ("level", "u1"),  # of the class
    ("way", "u1"),
    ("pad", "V5"),
    ("shard", "<u2"),  # where every record has it
    ("at_ms", "<i8"),  # on the store's clock
    ("nonce", "V16"),  # of the decision; of a configuration what its parts have in common
    ("configuration", "<u8"),
]
_END = [("checksum", "<u4"), ("padding", "V4")]
INTENT_RECORD = np.dtype(
    [
        *_HEAD,
        ("endpoint", "<u8"),
        ("app", "<u8"),
        ("class_name", f"S{NAME_BYTES}"),
        ("zone", f"S{NAME_BYTES}"),
        ("endpoint_name", f"S{ENDPOINT_BYTES}"),
        ("app_name", f"S{NAME_BYTES}"),
        ("reserved", "V12"),
        *_END,
    ]
)
CONFIGURATION_RECORD = np.dtype(
    [
        *_HEAD,
        ("n_dropped", "<u4"),  # records that this process's journals lost so far
        ("part", "<u2"),
        ("n_parts", "<u2"),
        ("size", "<u2"),  # of the part
        ("body", f"V{PART_BYTES}"),
        ("reserved", "V2"),
        *_END,
    ]
)
assert INTENT_RECORD.itemsize == CONFIGURATION_RECORD.itemsize == RECORD_SIZE
_INTENT = struct.Struct("<BBBBB5xHq16s3Q64s64s96s64s12x")
_PART = struct.Struct("<BBBBB5xHq16sQI3H304s2x")
_SEAL = struct.Struct("<I4x")
assert _INTENT.size == _PART.size == RECORD_SIZE - _SEAL.size
assert INTENT_RECORD.fields is not None
assert INTENT_RECORD.fields["shard"][1] == SHARD_OFFSET


class IntentWay(IntEnum):
    """On which way content leaves."""

    CALL = 1  # an attempt of a call that is decided here
    PASSED = 2  # what is passed on as it is
    COUNT = 3  # a prompt whose tokens are to be counted


class TrailWord(IntEnum):
    """What a process says of the configuration that it goes by."""

    BEGAN = 1  # with this one
    TOOK = 2  # this one instead of the one before
    STILL = 3  # nothing changed
    ENDED = 4  # properly: it sends nothing any more


class Intent(NamedTuple):
    """That content is about to be sent somewhere; names are cut to what a record has room for."""

    at_ms: int
    nonce: bytes
    way: IntentWay
    attempt: int
    class_name: str
    level: int
    zone: str
    endpoint: int  # its digest
    endpoint_name: str
    app: int
    app_name: str
    configuration: int

    def pack(self, n_shards: int) -> bytes:
        """Return the record, for the stream behind those of so many shards."""
        body = _INTENT.pack(
            *(INTENT, TRAIL_VERSION, min(self.attempt, 255), min(self.level, 255), self.way),
            *(n_shards, self.at_ms, self.nonce, self.configuration, self.endpoint, self.app),
            _cut(self.class_name, NAME_BYTES),
            _cut(self.zone, NAME_BYTES),
            _cut(self.endpoint_name, ENDPOINT_BYTES),
            _cut(self.app_name, NAME_BYTES),
        )
        return body + _SEAL.pack(zlib.crc32(body))


class InForce(NamedTuple):
    """What a process said of the configuration that it went by."""

    at_ms: int
    producer: bytes
    configuration: int
    word: TrailWord
    n_dropped: int
    constraints: bytes | None  # JSON; None where it said what they are before


def pack_configuration(
    n_shards: int,
    *,
    at_ms: int,
    configuration: int,
    word: TrailWord,
    n_dropped: int,
    constraints: bytes,
) -> list[bytes]:
    """Return the records in which a process says what it goes by.

    Args:
        constraints: JSON; empty where nobody need hear it again.
    """
    packed = zlib.compress(constraints, 9) if constraints else b""
    parts = [packed[i : i + PART_BYTES] for i in range(0, len(packed), PART_BYTES)] or [b""]
    nonce = secrets.token_bytes(16)
    out = []
    for number, part in enumerate(parts):
        body = _PART.pack(
            *(CONFIGURATION, TRAIL_VERSION, word, 0, 0, n_shards, at_ms, nonce, configuration),
            *(min(n_dropped, 0xFFFF_FFFF), number, len(parts), len(part), part),
        )
        out.append(body + _SEAL.pack(zlib.crc32(body)))
    return out


class Decoded(NamedTuple):
    """Records of the trail, told apart."""

    intents: NDArray[np.void]  # of INTENT_RECORD
    parts: NDArray[np.void]  # of CONFIGURATION_RECORD
    n_unsound: int


def decode_trail(data: bytes) -> Decoded:
    """Return the sound records in `data`, and how many are not."""
    n = len(data) // RECORD_SIZE
    whole = data[: n * RECORD_SIZE]
    records = np.frombuffer(whole, dtype=INTENT_RECORD)
    ends = RECORD_SIZE - _SEAL.size
    found = [zlib.crc32(whole[i * RECORD_SIZE : i * RECORD_SIZE + ends]) for i in range(n)]
    sound = records["checksum"] == np.array(found, dtype=np.uint32)
    sound &= records["trail_version"] == TRAIL_VERSION
    is_intent, is_part = records["kind"] == INTENT, records["kind"] == CONFIGURATION
    parts = np.frombuffer(whole, dtype=CONFIGURATION_RECORD)
    n_sound = int((sound & (is_intent | is_part)).sum())
    n_unsound = n - n_sound + (len(data) != len(whole))
    return Decoded(records[sound & is_intent], parts[sound & is_part], n_unsound)


class Assembler:
    """Puts together what processes said of configurations; a part may come twice, and late."""

    def __init__(self) -> None:
        self.said: list[InForce] = []
        self._waiting: dict[bytes, dict[int, np.void]] = {}
        self._done: set[bytes] = set()

    def add(self, producer: bytes, parts: NDArray[np.void]) -> None:
        """Take records of one producer."""
        for part in parts:
            nonce = part["nonce"].tobytes()
            if nonce in self._done:
                continue
            known = self._waiting.setdefault(nonce, {})
            known[int(part["part"])] = part
            if len(known) == int(part["n_parts"]):
                del self._waiting[nonce]
                self._done.add(nonce)
                self.said.append(_assembled(producer, known))

    @property
    def n_unfinished(self) -> int:
        """How many were said of which a part is missing."""
        return len(self._waiting)


def _assembled(producer: bytes, parts: dict[int, np.void]) -> InForce:
    first = parts[0]
    packed = b"".join(parts[i]["body"].tobytes()[: int(parts[i]["size"])] for i in sorted(parts))
    return InForce(
        int(first["at_ms"]),
        producer,
        int(first["configuration"]),
        TrailWord(int(first["attempt"])),
        int(first["n_dropped"]),
        zlib.decompress(packed) if packed else None,
    )


def _cut(name: str, n_bytes: int) -> bytes:
    """Return a name in so many bytes; a longer one is cut, and no character in two."""
    raw = name.encode()
    return raw if len(raw) <= n_bytes else raw[:n_bytes].decode(errors="ignore").encode()
