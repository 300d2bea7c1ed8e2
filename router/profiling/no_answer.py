"""Why no answer of an endpoint came, and what to do: from what our own sidecar says in its log.

Whoever profiles is the owner: where a client is told little, they are told setting and fix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from router.config.entries import File
from router.endpoints.auth import Auth, AuthEntry
from router.endpoints.catalog import Endpoint
from router.profiling.asking import NO_CREDIT, NOBODY_ANSWERED, Came, Got
from router.profiling.live_entries import auth_of
from router.profiling.live_words import IN_WORDS, in_short

ELSEWHERE = "see the sidecar's log"
"""What a client of a sidecar is told; ours has its log in the run's directory."""


class NoAnswer(NamedTuple):
    """Why there is none; what a provider says may hold parts of a prompt, and is kept apart."""

    reason: str
    fix: str
    said: str = ""

    @property
    def kept(self) -> str:
        """What a log may hold of it."""
        return f"{self.reason}; {self.fix}" if self.fix else self.reason

    def __str__(self) -> str:
        said = f": {self.said}" if self.said else ""
        return f"{self.reason}{said}; {self.fix}" if self.fix else f"{self.reason}{said}"


class LastHeard:
    """The last line of a log that names each endpoint; all lines go on to where they went."""

    def __init__(self) -> None:
        self.lines: dict[str, dict[str, Any]] = {}

    def __call__(
        self, _: object, __: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        """Take note of a line."""
        name = event.get("endpoint")
        if isinstance(name, str) and ("setting" in event or "result" in event):
            self.lines[name] = dict(event)
        return event


@contextmanager
def listening() -> Iterator[LastHeard]:
    """Take note of what is logged, until the end."""
    heard = LastHeard()
    processors = structlog.get_config()["processors"]  # in place: loggers in use hold this list
    processors.insert(0, heard)
    try:
        yield heard
    finally:
        processors.remove(heard)


class Explainer:
    """Says why a call came to nothing."""

    def __init__(self, entries: File, heard: LastHeard, log: Path) -> None:
        self._keys = {one.id: _key_of(auth_of(entries, one)) for one in entries.endpoints}
        self._heard, self._log = heard, log

    def why(self, endpoint: Endpoint, got: Got) -> NoAnswer:
        """Return why a call to an endpoint got no answer."""
        if got.code in NO_CREDIT:
            fix = f"pay there, or set {self._keys[endpoint.id]} to another account's"
            return NoAnswer(f"the account has no credit ({got.status} {got.code})", fix)
        line = self._heard.lines.get(endpoint.id, {})
        if got.came is Came.FAULT and "setting" in line:
            return self._of_setting(endpoint, line)
        status = ""
        if got.is_passed_on:
            status = "" if got.status == 200 else f" ({got.status})"
            result = _RESULTS.get(got.status, "server")
            if got.status < 500 and result == "server":
                of = " ".join(
                    [f"status {got.status}", *([got.code] if _CODE.match(got.code) else [])]
                )
                return NoAnswer(f"it turns the call down ({of})", "", in_short(got.said))
        elif got.code in NOBODY_ANSWERED:
            is_late = got.code == "deadline_exceeded"
            result = "timeout" if is_late else line.get("result", "")
        else:
            result = ""
        if result in IN_WORDS:
            reason, fix = IN_WORDS[result]
            return NoAnswer(reason.removesuffix(" (429)") + status, fix)
        return NoAnswer(in_short(got.said.replace(ELSEWHERE, f"see {self._log}")), "")

    def _of_setting(self, endpoint: Endpoint, line: dict[str, Any]) -> NoAnswer:
        """Return what is wrong with a key, a model or an address."""
        status = line.get("status", 0)
        of = f" ({status})" if status else ""
        key, model = self._keys[endpoint.id], endpoint.upstream_model
        if line["setting"] == "upstream_model":
            return NoAnswer(f"no such model or path{of}", f"check model {model}, and base_url")
        if status == 401:
            return NoAnswer(f"key turned down{of}", f"check {key}")
        if status == 403:
            return NoAnswer(f"key may not do this{of}", f"check {key}, and that it may use {model}")
        return NoAnswer(f"{line['reason']}{of}", line["fix"])


_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}\Z")
"""What may be kept of a provider's word: a name, and nothing of a prompt."""
_RESULTS = {200: "bad_reply", 408: "timeout", 429: "rate_limit"}


def _key_of(auth: Auth) -> str:
    """Return where a key comes from, as whoever has to put another one there knows it."""
    if isinstance(auth, AuthEntry):
        kind, name = auth.source
        return name if kind == "env" else f"auth.{kind} {name}"
    return f"auth: {auth}"
