"""What the calls of a session said before, and what that means under one configuration."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, structs

from router.config.compiled import Configuration
from router.config.rules import NOTHING, PolicyRules
from router.endpoints.data_classes import DataClass
from telemetry.session_notes import BETWEEN, SessionNote

MAX_KINDS = 4096
"""Of what sessions said, under one configuration; there are few: as many as tasks times classes."""


class SessionSaid(Struct, frozen=True, eq=False):
    """What the calls of a session said, under one configuration."""

    task: str | None = None  # that its first call was found in
    rules: PolicyRules = NOTHING  # the highest class of data
    level: int = -1  # of that class


NOTHING_SAID = SessionSaid()


class FirstCall(Struct, frozen=True):
    """A call that is its session's first unless one came before, where that may give the task."""

    at_ms: int  # epoch milliseconds of the store's clock
    task: Callable[[], str | None]  # that it gives; `OPENED`: none; None: it opens no session
    claims: bool = True  # it is one that stays; else it only asks whether one came


class CallSession(Struct, frozen=True, gc=False):
    """The session of a call; none where `key` is empty."""

    key: bytes = b""
    said: SessionSaid = NOTHING_SAID  # before this call
    waited_s: float = 0.0  # for the store to say so
    episode: int = 0  # digest by which its calls are booked
    is_first: bool = False  # the store said that no call came before: words may give the task
    settles: bool = False  # every router is to have its task, even if it is `general`
    is_aside: bool = False  # the call neither has nor gives the session's task
    opened: SessionNote | None = None  # what this call opened it with; None: it did not

    def as_heard(self) -> CallSession:
        """Return it as it is for a call that goes by what it said, and is none of its calls."""
        return structs.replace(self, key=b"", episode=0)

    def aside(self) -> CallSession:
        """Return it as it is for a call beside its conversation: of any task by itself."""
        said = structs.replace(self.said, task=None)
        return structs.replace(self, said=said, is_aside=True)


NO_SESSION = CallSession()


class SessionKinds:
    """What sessions may have said, by how it is kept; worked out once for each."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._known: dict[bytes, SessionSaid] = {}

    def of(self, text: bytes) -> SessionSaid:
        """Return what a kept text means: a task, and each class, parted by `BETWEEN`.

        Of a class that the configuration does not have any more, the highest that it has holds.
        """
        known = self._known.get(text)
        if known is None:
            if len(self._known) >= MAX_KINDS:
                self._known.clear()
            known = self._known[text] = self._work_out(text)
        return known

    def _work_out(self, text: bytes) -> SessionSaid:
        task, *names = text.decode().split(BETWEEN)
        classes, highest = self._configuration.classes, None
        for name in names:
            named: DataClass = classes.by_name.get(name, classes.all[-1])
            highest = named.tightened(highest)
        return SessionSaid(
            task if task in self._configuration.tasks else None,
            NOTHING if highest is None else PolicyRules(data_class=highest),
            -1 if highest is None else highest.level,
        )
