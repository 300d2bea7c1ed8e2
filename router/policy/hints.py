"""What a caller says beside the request itself: in headers, or in the body object `router`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from router.config.rules import NOTHING, PolicyRules, strictest
from router.dialects.misspelt import HEADERS, OURS, require_known_headers
from router.dialects.request import NO_HINTS, Declared
from router.endpoints.data_classes import DataClass, DataClasses
from router.errors import RequestRejected
from telemetry.names import id_in_cell
from telemetry.numbers import brief, number_of

Headers = Mapping[bytes, bytes]

AGENT_SESSION_HEADERS = (b"x-claude-code-session-id", b"session-id")
"""Session ids that coding agents send by themselves: Claude Code; Codex."""

N = len(OURS)
MAX_HINT = 256
N_CLIENTS = 64
"""Kinds of clients, which send headers of the same names, in the same order, with every call."""
TRUTHS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}
NEVER_EMPTY = (
    b"data-class",
    b"max-cost-usd",
    b"max-latency-ms",
    b"explore",
    b"dry-run",
    b"profile",
)
"""An empty one is a variable that was not set: what it was to hold off is not guessed."""
OF_ONE_CALL = frozenset({b"session-id", b"episode-id", b"user", b"prompt", b"ref", b"tags", b"key"})
"""Of what stands in headers: says whose a call is, and nothing of what holds for it."""


class Hints(Struct, frozen=True):
    """What the caller said beside the request itself; headers come before the body.

    Of what only tightens both hold.
    """

    task: str | None
    complexity: str | None
    strategy: str | None
    role: str | None
    user: str | None
    session: str | None  # or the episode, which is one over several roles
    is_users: bool  # that session is one of its user's alone
    is_agents: bool  # a coding agent's own, which it names by itself
    prompt: str | None  # the version that the caller names
    reference: str | None
    data_class: DataClass | None
    explore: bool
    max_cost_usd: float | None
    max_latency_ms: float | None
    dry_run: bool
    profile: bool  # it is one of a profile, not of the app's own traffic
    tags: Any = None  # as the header has them, else as the body has
    held: PolicyRules = NOTHING  # no caller says it: it goes by a budget that is used up
    is_usual: bool = False  # its caller says whose it is, and nothing of what holds for it

    def rules(self) -> PolicyRules:
        """Return what of them only tightens."""
        said = (self.data_class, self.max_cost_usd, self.max_latency_ms)
        if self.explore and said == (None, None, None):
            return self.held  # nothing, most often
        own = PolicyRules(
            data_class=self.data_class,
            cost_usd=self.max_cost_usd,
            latency_ms=self.max_latency_ms,
            no_exploring=not self.explore,
        )
        return own if self.held == NOTHING else strictest((own, self.held))


USUAL = DataClasses()


def read_hints(
    headers: Headers,
    declared: Declared,
    classes: DataClasses = USUAL,
    *,
    has_user: bool = False,
) -> Hints:
    """Return the hints of a call.

    Args:
        classes: of data, that the configuration knows.
        has_user: the call's key says whose it is.

    Raises:
        RequestRejected: a hint that could loosen or misapply a hard constraint.
    """
    hints, names = declared.hints, _ours_of(tuple(headers))
    if names.are_usual and hints is NO_HINTS:
        return _usual(names, headers, declared, has_user=has_user)
    ours = {short: _text(headers[name]) for name, short in names.all}
    if not names.are_usual:
        _require_hints(ours)
    said = ours.get
    user = said(b"user") or hints.user or declared.user
    session = said(b"episode-id") or hints.episode_id or said(b"session-id") or hints.session_id
    session, is_users, is_agents = _session(session, headers, declared, user, has_user=has_user)
    reference = said(b"ref") or hints.ref
    explore = _truth(said(b"explore"), "explore")
    dry_run = _truth(said(b"dry-run"), "dry_run")
    profile = _truth(said(b"profile"), "profile")
    return Hints(
        task=said(b"task") or hints.task,
        complexity=said(b"complexity") or hints.complexity,
        strategy=said(b"strategy") or hints.strategy,
        role=said(b"role") or hints.role,
        user=_short(user),
        session=session,
        is_users=is_users,
        is_agents=is_agents,
        prompt=_short(said(b"prompt") or hints.prompt or None),
        reference=_short(declared.reference if reference is None else reference),
        data_class=_tighter(
            _data_class(said(b"data-class"), classes),
            _data_class(hints.data_class, classes),
        ),
        explore=explore is not False and hints.explore is not False,
        max_cost_usd=_limit(said(b"max-cost-usd"), hints.max_cost_usd, "max_cost_usd"),
        max_latency_ms=_limit(said(b"max-latency-ms"), hints.max_latency_ms, "max_latency_ms"),
        dry_run=hints.dry_run is True if dry_run is None else dry_run,
        profile=hints.profile is True if profile is None else profile,
        tags=said(b"tags") or hints.tags,
    )


def _usual(names: _Ours, headers: Headers, declared: Declared, *, has_user: bool) -> Hints:
    """Return the hints of a call that says nothing but whose it is, and of which session.

    Most calls do, and each comes by here: they are given in the order of `Hints`.
    """
    user, reference = declared.user, declared.reference
    prompt = tags = session = None
    is_users = is_agents = False
    if names.session is not None:
        session = _text(headers[names.session])
    if names.others:
        said = {short: _text(headers[name]) for name, short in names.others}.get
        user, reference = said(b"user") or user, said(b"ref") or reference
        prompt, tags, session = said(b"prompt"), said(b"tags"), said(b"episode-id") or session
    if session:
        session = session_id_of(session) or None
    else:
        session, is_users, is_agents = _session(None, headers, declared, user, has_user=has_user)
    return Hints(
        None,
        None,
        None,
        None,
        None if user is None else short_name(user),
        session,
        is_users,
        is_agents,
        None if prompt is None else short_name(prompt),
        None if reference is None else short_name(reference),
        None,
        True,
        None,
        None,
        False,
        False,
        tags,
        NOTHING,
        True,
    )


def _session(
    session: str | None, headers: Headers, declared: Declared, user: str | None, *, has_user: bool
) -> tuple[str | None, bool, bool]:
    """Return the session's id, and whether it is one of its user's alone, and a coding agent's.

    Args:
        session: that the caller declares.
        has_user: the call's key says whose it is.
    """
    is_users = is_agents = False
    if not session:
        for name in AGENT_SESSION_HEADERS:
            if not session and name in headers:
                session = _text(headers[name])
                is_agents = bool(session)
        is_users = not session and declared.cache_key is not None
        if not session and (user is not None or has_user):
            session = declared.cache_key
        if not session:
            return None, is_users, is_agents
    return session_id_of(session) or None, is_users, is_agents


def _require_hints(ours: Mapping[bytes, str | None]) -> None:
    """Refuse a header that looks like one of ours, and an empty one that may not be.

    Args:
        ours: what our own headers say, by name without `x-router-`; an empty one says None.
    """
    if not ours.keys() <= HEADERS:
        require_known_headers(ours)
    if None in ours.values():
        _require_said(ours)


class _Ours(Struct, frozen=True):
    """The names of our own headers among those of a call, without `x-router-` as well."""

    all: tuple[tuple[bytes, bytes], ...]
    are_usual: bool  # none of them says what holds for the call
    session: bytes | None  # that of its session id
    others: tuple[tuple[bytes, bytes], ...]  # neither that nor the key


@lru_cache(N_CLIENTS)
def _ours_of(names: tuple[bytes, ...]) -> _Ours:
    ours = {name[N:]: name for name in names if name.startswith(OURS)}
    others = tuple((ours[one], one) for one in ours if one not in (b"session-id", b"key"))
    return _Ours(
        tuple((name, short) for short, name in ours.items()),
        OF_ONE_CALL.issuperset(ours),
        ours.get(b"session-id"),
        others,
    )


def _text(value: bytes) -> str | None:
    value = value.strip(b" \t")
    try:
        return value.decode() or None  # as it would stand in JSON
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _require_said(ours: Mapping[bytes, str | None]) -> None:
    for name in NEVER_EMPTY:
        if name in ours and ours[name] is None:
            header = (OURS + name).decode()
            message = f"{header} is empty; give it a value, or leave it out"
            raise RequestRejected("invalid_request", message, param=header)


def _truth(text: str | None, param: str) -> bool | None:
    if text is None:
        return None  # most often
    found = TRUTHS.get(text.lower())
    if found is None:
        message = f"{param} is {brief(text)}; write 1 (true, yes, on) or 0 (false, no, off)"
        raise RequestRejected("invalid_request", message, param=param)
    return found


def short_name(name: str) -> str:
    """Return a user, session id or reference as we use it: long ones go by their hash."""
    if len(name) <= MAX_HINT:
        return name
    return f"#{blake2b(name.encode(errors='surrogatepass'), digest_size=16).hexdigest()}"


def session_id_of(said: str) -> str:
    """Return a session's or episode's id as we use it, the same at every door; empty of blanks."""
    said = said.strip()
    if said.endswith("0"):  # else it is what it is
        said = id_in_cell(said)
    return said if len(said) <= MAX_HINT else short_name(said)


def _short(value: str | None) -> str | None:
    return None if value is None else short_name(value)


def _data_class(value: str | None, classes: DataClasses) -> DataClass | None:
    if value is None:
        return None
    found = classes.by_name.get(value)
    if found is None:
        known = ", ".join(classes.names)
        message = f"unknown data class {brief(value)}; known: {known}"
        raise RequestRejected("invalid_request", message, param="data_class")
    return found


def _tighter(in_header: DataClass | None, in_body: DataClass | None) -> DataClass | None:
    return in_body if in_header is None else in_header.tightened(in_body)


def _limit(text: str | None, in_body: float | None, param: str) -> float | None:
    """Return the tighter of what header and body allow.

    Raises:
        RequestRejected: it is no positive number: what it was to hold off is not guessed.
    """
    if text is None and in_body is None:
        return None  # most often
    said = [] if in_body is None else [in_body]
    if text is not None:
        number = number_of(text)  # as at every door: no 1_0, and no 5e400
        said.append(math.nan if number is None else number)
    for value in said:
        if not (0 < value < math.inf):
            shown = brief(text if text is not None else str(in_body))
            message = f"{param} is {shown}; write a positive number, such as 0.05"
            raise RequestRejected("invalid_request", message, param=param)
    return min(said, default=None)
