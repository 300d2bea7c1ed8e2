"""Ids of decisions, made in this process."""

from __future__ import annotations

import os

from telemetry.references import NONCE_COUNT_BYTES

RANDOM_BYTES = 16 - NONCE_COUNT_BYTES


class Nonces:
    """Random decision ids, fetched from the kernel 256 at a time: it costs a system call.

    The last bytes count up, so that of one process's decisions of one millisecond it shows which
    came first.
    """

    def __init__(self) -> None:
        self._pool: list[bytes] = []
        self._n_taken = 0

    def take(self) -> bytes:
        """Return 16 bytes that were never returned before; the first 14 are random."""
        if not self._pool:
            fresh = os.urandom(256 * RANDOM_BYTES)
            self._pool = [fresh[i : i + RANDOM_BYTES] for i in range(0, len(fresh), RANDOM_BYTES)]
        self._n_taken += 1
        return self._pool.pop() + (self._n_taken & 0xFFFF).to_bytes(NONCE_COUNT_BYTES, "big")
