"""A wake-up for readers: a message ends a wait early, and is never a reason to believe anything.

The learner publishes each commit. Messages get lost and subscriptions die without a word; then
the wait is as long as it would have been without them, and the poll that follows is the truth.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass

from telemetry import keys
from telemetry.store import Client, StoreErrors

SUBSCRIBE_EVERY_S = 1.0
"""A store that refuses or lost the subscription is asked for another one this often."""
SILENT_S = 15.0
"""A subscription that says nothing for so long may be dead: it is made anew."""


@dataclass(slots=True)
class Wakeup:
    """Waits of one reader's thread; its client is its own, as a subscription needs one."""

    client: Client
    _subscription: Client | None = None
    _heard_at: float = 0.0  # monotonic seconds
    _asked_at: float = -SUBSCRIBE_EVERY_S

    def wait(self, stop: threading.Event, *, at_least_s: float, at_most_s: float) -> bool:
        """Wait for news, but never beyond `at_most_s`; return whether any came.

        News that came before counts, and such as comes before `at_least_s` ends the wait then: who
        sleeps first, and listens afterwards, wakes twice for each.
        """
        now = time.monotonic()
        soonest, ends = now + at_least_s, now + at_most_s
        if at_most_s <= at_least_s:
            stop.wait(at_least_s)
            return False
        is_new = False
        try:
            self._listen()
            if self._subscription is not None and self._hear(stop, ends):
                is_new = True
                rest_s = soonest - time.monotonic()
                if rest_s > 0 and not stop.wait(rest_s):
                    self._hear(stop, 0.0)  # what came meanwhile is looked at with it
        except StoreErrors:
            self.close()
        if not is_new:
            stop.wait(max(ends - time.monotonic(), 0.0))
        return is_new

    def rouse(self) -> None:
        """End a wait from another thread, which has set its `stop`: the subscription hangs up."""
        connection = getattr(self._subscription, "connection", None)
        line = getattr(connection, "_sock", None)
        if line is not None:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give up the subscription; the next wait makes another one."""
        if self._subscription is not None:
            with contextlib.suppress(*StoreErrors):
                self._subscription.close()
            self._subscription = None

    def _listen(self) -> None:
        """Subscribe where there is no subscription, or none that was heard of lately."""
        now = time.monotonic()
        if self._subscription is not None and now - self._heard_at > SILENT_S:
            self.close()
        if self._subscription is None and now - self._asked_at >= SUBSCRIBE_EVERY_S:
            self._asked_at = self._heard_at = now
            self._subscription = self.client.pubsub(ignore_subscribe_messages=True)
            self._subscription.subscribe(keys.CHANGED)

    def _hear(self, stop: threading.Event, ends: float) -> bool:
        """Return whether a message came in time; takes all that are there."""
        assert self._subscription is not None
        found = False
        while not stop.is_set():
            left = 0.0 if found else max(ends - time.monotonic(), 0.0)
            message = self._subscription.get_message(timeout=left)
            if message is not None:
                found = True
                self._heard_at = time.monotonic()
            elif found or time.monotonic() >= ends:
                return found
        return False
