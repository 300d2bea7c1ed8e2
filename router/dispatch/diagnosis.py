"""What an endpoint's failure says of its configuration: the setting at fault, and the fix.

Only the log is told. A client learns which endpoint it was, and no address and no setting.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import httpx
import structlog

from router.dispatch.attempt import AttemptFailed
from router.dispatch.booking import RESULT_NAMES
from router.dispatch.fates import MODEL_CODES, Fate
from router.net.pool import Target
from telemetry.events import Result

log = structlog.get_logger()

SAY_AGAIN_S = 60.0
"""A line a minute is read; one a call hides the others."""
MAX_KINDS = 10_000
"""Kinds of failure remembered: statuses are the provider's to choose."""
NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN)
LOST = (
    "closed before its end",
    "ConnectionResetError",
    "BrokenPipeError",
    "ConnectionAbortedError",
)


class Diagnosis(NamedTuple):
    """A failure that a setting would mend."""

    setting: str  # of the endpoint or its provider
    reason: str
    fix: str


REFUSED = Diagnosis(
    "base_url", "nothing listens there", "start it, or correct host and port in base_url"
)
UNRESOLVED = Diagnosis(
    "base_url",
    "its host's name is not known",
    "correct the host in base_url, or this machine's DNS",
)
UNREACHABLE = Diagnosis(
    "base_url", "no network leads there", "correct the host in base_url, or this machine's routes"
)
TOO_SLOW = Diagnosis(
    "timeouts.connect_s",
    "no connection in time",
    "correct host and port in base_url, open the firewall, or raise timeouts.connect_s",
)
SPEAKS_NO_TLS = Diagnosis(
    "base_url",
    "its port speaks no TLS, and base_url says https",
    "write http:// in base_url, or the port that speaks TLS",
)
SPEAKS_TLS = Diagnosis(
    "base_url",
    "what it sends is no HTTP, and base_url says http",
    "write https:// in base_url, or the port that speaks HTTP",
)
NO_MODEL = Diagnosis(
    "upstream_model",
    "it knows no such model or path",
    "correct upstream_model (else model), or the path in base_url",
)
BY_STATUS = {
    400: SPEAKS_TLS._replace(reason="its port speaks TLS, and base_url says http"),
    401: Diagnosis("auth", "it turns down the key", "put a key that holds where auth says"),
    402: Diagnosis("auth", "the account has no credit", "add credit, or name another key in auth"),
    403: Diagnosis("auth", "its key may not do this", "name a key in auth that may use the model"),
    404: NO_MODEL,
}
"""Of what is the endpoint's own failure."""
REDIRECT = Diagnosis(
    "base_url", "it answers with a redirect", "write where it points to into base_url"
)


def diagnose(error: BaseException, *, tls: bool) -> Diagnosis | None:
    """Return which setting would mend a failure; None where none would.

    Args:
        error: what was raised, its causes behind it.
        tls: whether the connection was to be one of TLS.
    """
    if isinstance(error, AttemptFailed) and error.status:
        return _of_status(error)
    for cause in _causes(error):
        found = _of_cause(cause, tls=tls)
        if found is not None:
            return found
    return None


def _of_status(failure: AttemptFailed) -> Diagnosis | None:
    if failure.refusal is not None and failure.refusal.lacks_model:
        return NO_MODEL
    if failure.fate is Fate.ENDPOINT:
        redirected = 300 <= failure.status < 400
        return REDIRECT if redirected else BY_STATUS.get(failure.status)
    says_model = any(f"({code})" in str(failure) for code in MODEL_CODES)
    return NO_MODEL if failure.fate is Fate.FIT and says_model else None


def _of_cause(cause: BaseException, *, tls: bool) -> Diagnosis | None:
    match cause:
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted ({cause.verify_message})"
            fix = "correct the host in base_url; for an authority of your own set SSL_CERT_FILE"
            return Diagnosis("base_url", reason, fix)
        case ssl.SSLError() if cause.reason in NO_TLS:
            return SPEAKS_NO_TLS
        case ssl.SSLError():
            return SPEAKS_NO_TLS._replace(reason=f"no TLS with it ({cause.reason or 'cut'})")
        case socket.gaierror():
            return UNRESOLVED
        case ConnectionRefusedError():
            return REFUSED
        case OSError() if cause.errno in NO_WAY:
            return UNREACHABLE
        case httpx.ConnectTimeout():
            return TOO_SLOW
        case httpx.RemoteProtocolError() if not tls and str(cause) not in LOST:
            return SPEAKS_TLS
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield what an error came from, the first cause first."""
    chain = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    yield from reversed(chain)


class Complaints:
    """Says what fails: one line a minute for each endpoint and reason, with those held back."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, again_s: float = SAY_AGAIN_S
    ) -> None:
        """Say nothing yet.

        Args:
            again_s: how long what was said is not said again.
        """
        self._clock, self._again_s = clock, again_s
        self._said: dict[tuple[str, object], tuple[float, int]] = {}

    def say(self, name: str, target: Target, error: BaseException) -> None:
        """Log one failure of the endpoint `name`, unless it was said just now."""
        trouble = diagnose(error, tls=target.origin.tls)
        result = error.result if isinstance(error, AttemptFailed) else Result.CONNECT
        status = error.status if isinstance(error, AttemptFailed) else 0
        held_back = self._held_back((name, trouble or (result, status)))
        if held_back is None:
            return
        more = {"held_back": held_back} if held_back else {}
        if trouble is None:
            shown = str(error) if isinstance(error, AttemptFailed) else type(error).__name__
            told = {"result": RESULT_NAMES[result], "detail": shown}
            log.warning("attempt failed", endpoint=name, **told, **more)
            return
        if status:
            more["status"] = status
        log.error(
            "an endpoint cannot be used as it is configured",
            endpoint=name,
            address=address_of(target),
            setting=trouble.setting,
            reason=trouble.reason,
            fix=trouble.fix,
            **more,
        )

    def _held_back(self, kind: tuple[str, object]) -> int | None:
        """Return how many like it were held back since the last line; None to hold this back."""
        now = self._clock()
        said_at, n = self._said.get(kind, (now - self._again_s, 0))
        if now - said_at < self._again_s:
            self._said[kind] = said_at, n + 1
            return None
        if len(self._said) >= MAX_KINDS:
            self._said.clear()
        self._said[kind] = now, 0
        return n


def address_of(target: Target) -> str:
    """Return host, port and path of a target: no user, no password, no query."""
    host = f"[{target.origin.host}]" if ":" in target.origin.host else target.origin.host
    return f"{host}:{target.origin.port}{target.url.path}"
