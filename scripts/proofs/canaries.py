"""Marked secrets: planted under a name, and found again in bytes, encoded or not.

Each is a marker, its number, and random digits. So one search for the marker finds all of them, a
part of one too, and says which one it was; and nothing about one looks like a key, so that it is
found also where only what looks like a key is masked.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

MARKER = "pmcanary"
NUMBER_DIGITS = 5
RANDOM_DIGITS = 15
_PLAIN = re.compile(rf"{MARKER}([0-9a-f]{{{NUMBER_DIGITS}}})?".encode(), re.I)
_HEX = re.compile(
    rf"{MARKER.encode().hex()}((?:[0-9a-f]{{2}}){{0,{NUMBER_DIGITS}}})".encode(), re.I
)
_PERCENT = re.compile(
    ("".join(f"%{byte:02x}" for byte in MARKER.encode()) + r"((?:%[0-9a-f]{2})*)").encode(), re.I
)
UNKNOWN = "cut off, so that nothing says which"


def _in_base64(shift: int) -> bytes:
    """Return what of the marker's base64 is the same wherever it begins `shift` bytes behind."""
    text = base64.b64encode(bytes(shift) + MARKER.encode())
    first = -(-shift * 8 // 6)  # digits that hold bits of what stands before
    whole = (shift + len(MARKER)) * 8 // 6
    return text[first:whole]


_BASE64 = [
    (shift, re.compile(re.escape(_in_base64(shift)) + rb"[A-Za-z0-9+/_-]{0,30}"))
    for shift in range(3)
]


@dataclass(slots=True)
class Canaries:
    """All that were planted."""

    names: list[str] = field(default_factory=list)

    def plant(self, name: str) -> str:
        """Return a new secret; hits call it by `name`."""
        self.names.append(name)
        random = secrets.token_hex(RANDOM_DIGITS)[:RANDOM_DIGITS]
        return f"{MARKER}{len(self.names) - 1:0{NUMBER_DIGITS}x}{random}"

    def found_in(self, data: bytes) -> set[str]:
        """Return the names of those that stand in `data`: plain, base64, percent-encoded, hex."""
        return {self._name(digits) for digits in _numbers(data)}

    def _name(self, digits: bytes) -> str:
        number = int(digits, 16) if len(digits) == NUMBER_DIGITS else -1
        return self.names[number] if 0 <= number < len(self.names) else UNKNOWN


def _numbers(data: bytes) -> Iterator[bytes]:
    """Yield the number of each secret in `data`, as far as it is there."""
    for found in _PLAIN.finditer(data):
        yield found[1] or b""
    for found in _HEX.finditer(data):
        yield bytes.fromhex(found[1].decode())
    for found in _PERCENT.finditer(data):
        yield bytes.fromhex(found[1].replace(b"%", b"").decode())[:NUMBER_DIGITS]
    for shift, pattern in _BASE64:
        for found in pattern.finditer(data):
            yield _decoded(found[0], shift)


def _decoded(text: bytes, shift: int) -> bytes:
    """Return the number that follows a marker in base64."""
    lost = -(-shift * 8 // 6)
    text = b"A" * lost + text.replace(b"-", b"+").replace(b"_", b"/")
    whole = base64.b64decode(text[: len(text) // 4 * 4])
    return whole[shift + len(MARKER) :][:NUMBER_DIGITS]
