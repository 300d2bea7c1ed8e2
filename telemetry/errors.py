"""What can go wrong with events and the store.

TelemetryError
├── MalformedEvent      a frame or record that cannot be read
├── BadEvent            an event that somebody sent; names the field
├── StoreUnavailable    no store answers; the message says what to do
└── StoreMismatch       the store was made with another layout
"""

from __future__ import annotations

from telemetry.numbers import clipped


class TelemetryError(Exception):
    """Root of this package's errors."""


class MalformedEvent(TelemetryError):
    """A frame or record that cannot be read."""


class BadEvent(TelemetryError):
    """An event that somebody sent and that cannot be taken; the message names field and fix."""

    def __init__(self, field: str, message: str) -> None:
        self.field = clipped(field)  # a field that is not known may have any name
        super().__init__(message)


class StoreUnavailable(TelemetryError):
    """No store answers; the message says what to do."""


class StoreMismatch(TelemetryError):
    """The store was made with another layout than this process expects."""
