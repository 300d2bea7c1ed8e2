"""What can go wrong with events and the store.

TelemetryError
├── MalformedEvent      a frame or record that cannot be read
├── StoreUnavailable    no store answers; the message says what to do
└── StoreMismatch       the store was made with another layout
"""

from __future__ import annotations


class TelemetryError(Exception):
    """Root of this package's errors."""


class MalformedEvent(TelemetryError):
    """A frame or record that cannot be read."""


class StoreUnavailable(TelemetryError):
    """No store answers; the message says what to do."""


class StoreMismatch(TelemetryError):
    """The store was made with another layout than this process expects."""
