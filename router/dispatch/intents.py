"""The door through which sensitive content leaves: what cannot be recorded first does not leave.

Whoever is about to send content asks `is_recorded`, which is all that other calls pay, and then
`intend` right before the first byte, for every attempt anew.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import structlog

from router.config.compiled import App, Configuration
from router.dispatch.in_force import ConfigurationTeller
from router.endpoints.catalog import Endpoint
from router.endpoints.data_classes import DataClass
from router.endpoints.providers import Provider
from router.endpoints.terms import HostingTerms
from router.errors import AuditUnavailable
from telemetry.trail import NOWHERE, Intent, IntentWay
from telemetry.writer import Writer

log = structlog.get_logger()

SAY_AGAIN_S = 60.0


def is_recorded(data_class: DataClass) -> bool:
    """Return whether content of a class leaves only once that is on record."""
    return data_class.is_sensitive


class Recipient(NamedTuple):
    """Where content is about to go."""

    digest: int  # by which outcomes know it
    name: str
    terms: HostingTerms

    @classmethod
    def of(cls, place: Endpoint | Provider) -> Recipient:
        """Return an endpoint, or a provider that is asked for what is no call of ours."""
        name = place.id if isinstance(place, Endpoint) else place.name
        return cls(place.digest, name, place.terms)


class Intents:
    """Records what is about to leave; one for the process."""

    def __init__(self, writer: Writer, teller: ConfigurationTeller, *, n_shards: int) -> None:
        self._writer = writer
        self._teller = teller
        self._n_shards = n_shards
        self._say_again_at = 0.0
        self.n_recorded = 0
        self.n_refused = 0

    def intend(
        self,
        to: Recipient,
        *,
        data_class: DataClass,
        app: App,
        configuration: Configuration,
        nonce: bytes,
        way: IntentWay = IntentWay.CALL,
        attempt: int = 1,
    ) -> None:
        """Record that content of a class is about to be sent somewhere.

        Args:
            configuration: what the call goes by.
            nonce: of its decision, by which its outcome is found.

        Raises:
            AuditUnavailable: that cannot be recorded. Nothing may be sent.
        """
        intent = Intent(
            at_ms=self._writer.clock.now_ms(),
            nonce=nonce,
            way=way,
            attempt=attempt,
            class_name=data_class.name,
            level=data_class.level,
            zone=to.terms.zone_at(time.time()) or NOWHERE,
            endpoint=to.digest,
            endpoint_name=to.name,
            app=app.digest,
            app_name=app.name,
            configuration=configuration.version,
        )
        is_safe = self._teller.is_on_record(configuration)
        if not (is_safe and self._writer.put_or_refuse(intent.pack(self._n_shards))):
            self._refuse(data_class)
        self.n_recorded += 1

    def _refuse(self, data_class: DataClass) -> None:
        self.n_refused += 1
        now = time.monotonic()
        if now >= self._say_again_at:
            self._say_again_at = now + SAY_AGAIN_S
            log.error(
                "the journal takes no record: calls with sensitive data are refused",
                refused=self.n_refused,
                fix="make room for server.state_dir, or bring the store back",
            )
        raise AuditUnavailable(data_class.name)
