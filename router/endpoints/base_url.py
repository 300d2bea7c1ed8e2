"""The address of a provider as it is written: checked, and parted from what signs a caller in."""

from __future__ import annotations

import base64
import ipaddress
import re
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

MAX_PORT = 65535
MAX_PLAIN_URL = 2048
OF_CALLS = ("chat/completions", "completions", "messages", "responses", "embeddings")
"""What a call's own path ends with; a base URL that does, too, would have it twice."""


def check_base_url(value: str) -> str:
    """Return a base URL that calls can be sent below.

    Raises:
        ValueError: it is none; says why and what to write, and shows no user or password.
    """
    parts = _split(value)
    whole = parts.scheme in ("http", "https") and parts.hostname and not re.search(r"\s", value)
    if not whole or parts.query or parts.fragment or (parts.port or 0) > MAX_PORT:
        raise ValueError("write a whole URL, such as https://api.openai.com/v1")
    path = parts.path.rstrip("/").lower()
    for ending in OF_CALLS:
        if path.endswith(f"/{ending}"):
            raise ValueError(f"leave /{ending} out: the path of a call is added to a base URL")
    bare, _ = part_user(value)
    if not _is_plain(bare, parts.hostname or ""):
        _parse_as_sent(bare)
    return value


def part_user(base_url: str) -> tuple[str, tuple[bytes, bytes] | None]:
    """Return a base URL without user, password and closing slashes, and the header for those two.

    `http://user:password@host` is what `Authorization: Basic` says (RFC 7617). The URL that is
    left may be shown, logged and hashed.
    """
    scheme, _, rest = base_url.rstrip("/").partition("://")
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if not at:
        return base_url.rstrip("/"), None
    bare = f"{scheme}://{host}{slash}{path}"
    if not user:
        return bare, None
    name, _, password = user.partition(":")
    pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
    return bare, (b"authorization", b"Basic " + base64.b64encode(pair))


def without_user(text: str) -> str:
    """Return a text in which no URL shows user and password; a broken URL does not either."""
    return re.sub(r"//.*@", "//…@", text, flags=re.DOTALL)


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:  # wrong brackets, or a port that is none
        # Of a password that holds a slash, the reason would show a part.
        why = "is a / in the password written as %2F?" if "@" in value else str(error)
        raise ValueError(f"this is no URL ({why})") from None
    return parts


def _is_plain(url: str, host: str) -> bool:
    """Return whether nothing about a URL needs a closer look."""
    if len(url) > MAX_PLAIN_URL or not url.isascii() or not url.isprintable():
        return False
    if re.fullmatch(r"[0-9.:a-f]*[0-9:]", host):
        try:
            return bool(ipaddress.ip_address(host))
        except ValueError:
            return False
    return bool(re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", host)) and "xn--" not in host


def _parse_as_sent(url: str) -> None:
    """Take a URL for what whoever sends will take it.

    Raises:
        ValueError: it is none.
    """
    import httpx  # here, because it takes .2 s of CPU that no usual URL needs

    try:
        _ = httpx.URL(url).host
    except (httpx.InvalidURL, UnicodeError) as error:  # the latter from the library for host names
        raise ValueError(f"this is no URL ({error})") from None
