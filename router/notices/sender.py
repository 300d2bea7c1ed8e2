"""The thread that sends notices to a webhook: in order, each once over all routers of a store.

What fails is tried again, ever more seldom, for an hour after it happened; then it is given up, as
is what the receiver turns down. Two routers never send at a time; only where one dies between
sending and noting it, or the store is away just then, is a notice sent twice, under the same id.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from router.config.notices import NoticesEntry, Receiver
from router.notices.backlog import Backlog, WaitingNotice
from router.notices.looking import look_until
from router.notices.webhook import Delivery, send
from telemetry.routers import RouterTrouble
from telemetry.store import Address, Client

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
FIRST_REST_S = 1.0
LONGEST_REST_S = 60.0
TRIED_S = 3600.0
"""After an event: later it is no news."""


class NoticeSender:
    """Sends them; one for the process."""

    def __init__(
        self,
        address: Address,
        *,
        name: str,
        wanted: Callable[[], NoticesEntry],
        now_ms: Callable[[], int],
    ) -> None:
        """Send nothing yet.

        Args:
            name: of this router.
            wanted: what is sent, and where to, as of now.
            now_ms: epoch milliseconds, by the store's clock.
        """
        self._address, self._name, self._wanted, self._now_ms = address, name, wanted, now_ms
        self._backlog: Backlog | None = None
        self._receiver: Receiver | None = None
        self._failing_ms = 0  # since when, in epoch ms; 0: it does not
        self._why = ""
        self._rest_s = FIRST_REST_S
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notices", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a receiver that does not answer is not waited for."""
        self._stop.set()
        self._thread.join(2)

    def troubles(self) -> list[RouterTrouble]:
        """Return that notices do not arrive, where they do not."""
        if not self._failing_ms:
            return []
        trouble = RouterTrouble(
            kind="notices",
            subject="notices.webhook",
            text=f"the receiver takes no notices ({self._why})",
            since_ms=self._failing_ms,
            fix="see that it is up, and that the variable of url_env holds its address",
            is_urgent=False,
        )
        return [trouble]

    def look(self, client: Client) -> float:
        """Send what waits, if this router is the one that sends; return how long to rest.

        Raises:
            redis.RedisError, OSError: the store is away.
        """
        wanted = self._wanted()
        receiver = wanted.receiver()
        backlog = self._follow(client, receiver)
        if receiver is None or backlog is None or not backlog.hold():
            self._failing_ms = 0  # another router's affair, or nobody's
            return LOOK_EVERY_S
        for waiting in backlog.read(now_ms=self._now_ms()):
            if self._stop.is_set() or not backlog.hold():
                break
            if not self._deliver(receiver, waiting, wanted):
                rest_s, self._rest_s = self._rest_s, min(2 * self._rest_s, LONGEST_REST_S)
                return rest_s
            backlog.done(waiting)
        return LOOK_EVERY_S

    def _follow(self, client: Client, receiver: Receiver | None) -> Backlog | None:
        """Return the backlog of a receiver, which may be another one than before."""
        if receiver != self._receiver:
            if self._backlog is not None:
                self._backlog.leave()
            self._receiver, self._failing_ms, self._rest_s = receiver, 0, FIRST_REST_S
            self._backlog = Backlog(client, receiver, self._name) if receiver else None
        return self._backlog

    def _deliver(self, receiver: Receiver, waiting: WaitingNotice, wanted: NoticesEntry) -> bool:
        """Return whether a notice is done with: sent, not wanted, turned down or too old."""
        notice = waiting.notice
        if notice is None or notice.kind not in wanted.kinds:
            return True
        if self._now_ms() - waiting.order[0] > TRIED_S * 1000:
            log.error("a notice was never taken and is given up", id=notice.id, kind=notice.kind)
            return True
        delivery, why = send(receiver, notice, at_s=time.time())
        match delivery:
            case Delivery.TAKEN:
                if self._failing_ms:
                    log.info("notices are taken again")
                self._failing_ms, self._rest_s = 0, FIRST_REST_S
                return True
            case Delivery.REFUSED:
                log.error("a notice is turned down", id=notice.id, kind=notice.kind, why=why)
                self._note_failure(why)
                return True
            case Delivery.LATER:
                if not self._failing_ms:
                    log.warning("notices are not taken; they are sent again", why=why)
                self._note_failure(why)
                return False

    def _note_failure(self, why: str) -> None:
        self._failing_ms, self._why = self._failing_ms or self._now_ms(), why

    def _run(self) -> None:
        look_until(
            self._stop,
            self._address,
            self.look,
            self._leave,
            rest_s=LOOK_EVERY_S,
            failed="notices could not be sent",
        )

    def _leave(self, client: Client) -> None:
        """Let another router send, without waiting for this one's lease to end."""
        if self._backlog is not None:
            self._backlog.leave()
