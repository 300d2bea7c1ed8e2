"""Whose call it is, and which credential may travel on.

The caller's key never leaves for a provider unless an endpoint says `auth: client`; one that is
a key of ours never leaves at all.
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from secrets import token_bytes
from urllib.parse import urlsplit

from msgspec import Struct

from router.config.compiled import App, Configuration, KeyHolder
from router.config.keys import DEFAULT_APP, MADE_HERE, digest_of_secret
from router.config.process import LOOPBACK
from router.errors import RequestRejected
from router.policy.hints import short_name

Headers = Mapping[bytes, bytes]
CREDENTIALS = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
_OF_WHOSE = frozenset((*CREDENTIALS, b"x-router-key"))
MAX_KNOWN = 1024
"""Sets of credentials that belong to somebody, in about 300 bytes each."""

_BLIND = token_bytes(32)
"""Of this process alone, so that nobody can choose what a look-up compares."""


class Caller(Struct, frozen=True):
    """An authenticated caller; `credentials` are what may be passed on to `auth: client`."""

    app: App
    credentials: tuple[tuple[bytes, bytes], ...] = ()
    holder: KeyHolder | None = None  # what its key says of it

    @property
    def has_user(self) -> bool:
        """Whether its key says whose call it is."""
        return self.holder is not None and self.holder.user is not None

    def user(self, said: str | None) -> str | None:
        """Return whose call it is: whom its key says, else the label that it came with.

        Args:
            said: that label. Beside a key's user it identifies nobody; rules of it only tighten.
        """
        own = self.holder.user if self.holder is not None else None
        return said if own is None else short_name(own)


class Keys:
    """The keys of one configuration, held as digests only."""

    def __init__(self, configuration: Configuration) -> None:
        self._holders = {_blinded(key): one for key, one in configuration.callers_keys.items()}
        admin = configuration.admin_key
        self._admin = _blinded(admin) if admin else None
        self._configuration = configuration
        self._open = configuration.server.is_loopback
        self._default = configuration.apps.get(DEFAULT_APP)
        self._unkeyed = None if self._holders or not self._default else Caller(self._default)
        self._known: dict[bytes, tuple[Caller, tuple[int, ...]]] = {}

    def caller(self, headers: Headers) -> Caller:
        """Return whose call it is.

        Which credentials are whose is remembered by a digest of them, so that none of them stays
        in memory; what belongs to nobody is not.

        Raises:
            RequestRejected: keys are configured, and the call has none or a wrong one.
        """
        if self._unkeyed is not None and _OF_WHOSE.isdisjoint(headers):
            return self._unkeyed  # most often
        given, own = _credentials(headers), headers.get(b"x-router-key")
        told = _told_apart(given, own)
        known = self._known.get(told)
        if known is None:
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            known = self._known[told] = self._find(given, own)
        caller, theirs = known
        if not theirs:
            return caller
        return Caller(caller.app, tuple(given[i] for i in theirs), caller.holder)

    def _find(
        self, credentials: Sequence[tuple[bytes, bytes]], own: bytes | None
    ) -> tuple[Caller, tuple[int, ...]]:
        """Return whose call it is, without credentials, and which of them may be passed on."""
        given = [(each, _digest(_secret(each))) for each in credentials]
        theirs = tuple(i for i, one in enumerate(given) if not self._is_ours(*one))
        if not self._holders:
            assert self._default is not None  # the configuration check sees to it
            return Caller(self._default), theirs
        digests = [_digest(own)] if own is not None else [digest for _, digest in given]
        if not digests:
            raise RequestRejected(
                "invalid_api_key", "no key: send the app's key as bearer token or in x-router-key"
            )
        found = [self._holders.get(digest) for digest in digests]
        holder = next((each for each in found if each is not None), None)
        if holder is None:
            raise RequestRejected("invalid_api_key", "this key belongs to no app")
        return Caller(self._configuration.apps[holder.app], (), holder), theirs

    def require_admin(self, headers: Headers) -> None:
        """Let only the admin key pass; where none is set, whoever can reach us on this machine.

        Raises:
            RequestRejected: the admin key is needed and missing.
        """
        if self._admin is None:
            if self._open:
                return
            raise RequestRejected(
                "admin_key_required", "set server.admin_key to use this route from elsewhere"
            )
        given = headers.get(b"x-router-key") or next(map(_secret, _credentials(headers)), b"")
        if not hmac.compare_digest(_digest(given), self._admin):
            raise RequestRejected("admin_key_required", "this route needs the admin key")

    def caller_or_first(self, headers: Headers) -> Caller:
        """Return whose call it is, or the first app: a dry run may come with the admin key."""
        try:
            return self.caller(headers)
        except RequestRejected:
            return Caller(next(iter(self._configuration.apps.values())))

    def require_admin_or_app(self, headers: Headers) -> None:
        """Let the admin key pass, or an app's.

        Raises:
            RequestRejected: it is neither.
        """
        try:
            self.require_admin(headers)
        except RequestRejected:
            self.caller(headers)

    def app_or_admin(self, headers: Headers) -> App | None:
        """Return the app whose key this is and that sees what is its own; None: all is seen.

        Raises:
            RequestRejected: it is no app's key, and the admin key is needed.
        """
        try:
            caller = self.caller(headers)
        except RequestRejected:
            caller = None
        if caller is not None and caller.holder is not None:
            return caller.app
        self.require_admin(headers)
        return None

    def _is_ours(self, credential: tuple[bytes, bytes], digest: bytes) -> bool:
        secret, typed = _secret(credential), _password(credential[1])
        if typed is not None:  # a browser sends along what its user typed for the page
            secret, digest = typed, _digest(typed)
        known = digest in self._holders or digest == self._admin
        return known or MADE_HERE.fullmatch(secret) is not None  # also one that was revoked


def with_password(headers: Headers) -> Headers:
    """Return headers in which the password that a browser asked for stands as a key.

    For what is read alone: a browser sends it along with whatever anybody's page makes it send.
    """
    typed = _password(headers.get(b"authorization", b""))
    return headers if typed is None else {**headers, b"authorization": b"Bearer " + typed}


def check_origin(headers: Headers, configuration: Configuration) -> None:
    """Refuse what a web page in a browser on this machine could send without its user knowing.

    Raises:
        RequestRejected: a foreign Host (DNS rebinding) or a foreign Origin.
    """
    host, origin = headers.get(b"host"), headers.get(b"origin")
    is_here = host is None or _is_loopback(b"//" + host)
    if (is_here and origin is None) or not configuration.server.is_loopback:
        return  # most often
    if not is_here:
        raise RequestRejected("forbidden_host", "this sidecar answers to localhost only")
    if origin is not None and not _is_loopback(origin):
        raise RequestRejected("forbidden_origin", "web pages from elsewhere may not call this")


def require_single(raw: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a header of ours, or a host, that comes twice: nobody knows which is meant.

    Raises:
        RequestRejected: one does.
    """
    seen: set[bytes] = set()
    for name, _ in raw:
        if name in seen and (name.startswith(b"x-router-") or name == b"host"):
            shown = name.decode("latin-1")
            raise RequestRejected(
                "invalid_request", f"the header {shown} comes twice; send one", param=shown
            )
        seen.add(name)


@lru_cache(maxsize=256)
def _is_loopback(url: bytes) -> bool:
    try:
        return urlsplit(url.decode("latin-1")).hostname in LOOPBACK
    except ValueError:
        return False


def _credentials(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name, headers[name]) for name in CREDENTIALS if name in headers]


def _told_apart(given: Sequence[tuple[bytes, bytes]], own: bytes | None) -> bytes:
    """Return what tells what calls come with, and from which nobody gets a key back."""
    said = [b"%b %d %b" % (name, len(value), value) for name, value in given]
    if own is not None:
        said.append(b"own %d %b" % (len(own), own))
    return _blinded(b"".join(said))


def _secret(credential: tuple[bytes, bytes]) -> bytes:
    name, value = credential
    if name == b"authorization" and value[:7].lower() == b"bearer ":
        return value[7:].strip()
    return value


def _password(value: bytes) -> bytes | None:
    """Return the password of HTTP Basic, whoever the user; None of anything else."""
    if value[:6].lower() != b"basic ":
        return None
    try:
        return b64decode(value[6:].strip(), validate=True).partition(b":")[2]
    except ValueError:
        return None


def _digest(secret: bytes) -> bytes:
    return _blinded(digest_of_secret(secret))


def _blinded(digest: bytes) -> bytes:
    """Return what digests are compared by: how long that takes says nothing of any of them."""
    return blake2b(digest, digest_size=32, key=_BLIND).digest()
