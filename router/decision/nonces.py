"""Ids of decisions, made in this process."""

from __future__ import annotations

import os

from telemetry.references import NONCE_COUNT_BYTES

RANDOM_BYTES = 16 - NONCE_COUNT_BYTES
FETCHED = 256
"""At once: it costs a system call."""


class Nonces:
    """Random decision ids, fetched from the kernel many at a time.

    The last bytes count up, so that of one process's decisions of one millisecond it shows which
    came first.
    """

    def __init__(self) -> None:
        self._pool: list[bytes] = []
        self._n_taken = 0  # or about to be

    def take(self) -> bytes:
        """Return 16 bytes that were never returned before; the first 14 are random."""
        if not self._pool:
            self._fill()
        return self._pool.pop()

    def _fill(self) -> None:
        fresh, first = os.urandom(FETCHED * RANDOM_BYTES), self._n_taken + 1
        self._n_taken += FETCHED
        counts = reversed(range(first, first + FETCHED))  # they are taken from the end
        self._pool = [
            fresh[i * RANDOM_BYTES : (i + 1) * RANDOM_BYTES]
            + (count & 0xFFFF).to_bytes(NONCE_COUNT_BYTES, "big")
            for i, count in enumerate(counts)
        ]
