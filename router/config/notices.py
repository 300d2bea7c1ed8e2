"""Where notices of what changed are sent, as it is written, and whether they may go there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from router.config.masking import HIDDEN, Place, is_name_of_variable
from router.endpoints.entry import Entry
from telemetry.keyring import LEAST_CHARACTERS

MAX_URL = 2048


class NoticeKind(StrEnum):
    """What notices are of; the words of `bandit.report.ChangeKind`."""

    RELEASE = "release"
    PROPOSAL = "proposal"
    TRIAL = "trial"
    DRIFT = "drift"
    PRICE = "price"
    BUDGET = "budget"
    NEWCOMER = "newcomer"
    GONE = "gone"
    OUTAGE = "outage"
    RECOVERY = "recovery"
    SUSPENDED = "suspended"
    SWITCH = "switch"


USUAL_KINDS = (
    NoticeKind.RELEASE,
    NoticeKind.PROPOSAL,
    NoticeKind.TRIAL,
    NoticeKind.DRIFT,
    NoticeKind.PRICE,
    NoticeKind.BUDGET,
)
"""Releases and what waits for a yes, alarms, and spent allowances."""


class WebhookEntry(Entry):
    """Who receives notices over HTTP; both values stand in environment variables."""

    url_env: str
    """Name of the variable with the address."""
    secret_env: str
    """Name of the variable with the secret by which notices are signed."""
    allow_http: bool = False
    """True: also without TLS to another machine; what is sent can then be read on the way."""


class NoticesEntry(Entry):
    """What is sent of what changed, and where to; every notice is a line of the log anyway."""

    webhook: WebhookEntry | None = None
    """Who receives them; unset, nobody, and the log has them alone."""
    kinds: Annotated[list[NoticeKind], Field(min_length=1)] = Field(
        default_factory=lambda: list(USUAL_KINDS)
    )
    """Of which changes. Unset, releases, proposals, trials, drift, prices and budgets."""

    def receiver(self) -> Receiver | None:
        """Return who receives notices, by this process's environment; None: nobody."""
        if self.webhook is None:
            return None
        url = os.environ.get(self.webhook.url_env, "")
        secret = os.environ.get(self.webhook.secret_env, "")
        if not secret or url_problem(url, allow_http=self.webhook.allow_http) is not None:
            return None
        return Receiver(url, secret.encode())


class Receiver(NamedTuple):
    """Who receives notices. Neither part is ever shown."""

    url: str
    secret: bytes

    def __repr__(self) -> str:
        """Show nothing."""
        return "Receiver(…)"


def url_problem(url: str, *, allow_http: bool) -> str | None:
    """Return why nothing is sent to an address, without repeating it; None where it may be."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not host or len(url) > MAX_URL or not url.isascii():
        return "must hold an address such as https://example.com/hooks/pointsman"
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        return "must begin with https:// unless it is this machine; allow_http: true permits it"
    return None


def check_notices(entry: NoticesEntry) -> Iterator[tuple[Place, str, str]]:
    """Yield what is wrong with where notices go: place, value, hint."""
    webhook = entry.webhook
    if webhook is None:
        return
    for field, name in (("url_env", webhook.url_env), ("secret_env", webhook.secret_env)):
        place: Place = ("notices", "webhook", field)
        value = os.environ.get(name) if is_name_of_variable(name) else None
        if not is_name_of_variable(name):
            yield place, HIDDEN, "name the environment variable that holds it"
        elif not value:
            yield place, name, f"environment variable {name} is not set; export it"
        elif field == "url_env":
            problem = url_problem(value, allow_http=webhook.allow_http)
            if problem is not None:
                yield place, name, f"environment variable {name} {problem}"
        elif len(value) < LEAST_CHARACTERS:
            hint = f"it has less than {LEAST_CHARACTERS} characters; make one: openssl rand -hex 32"
            yield place, name, hint


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
