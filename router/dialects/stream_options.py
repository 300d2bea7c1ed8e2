"""The one field that is added to requests: without it nobody learns what a stream cost."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from router.dialects.fields import encoded, top_level


def leaves_usage_out(options: Any) -> bool:
    """Return whether `stream_options` of a request leaves the usage unasked for."""
    is_known = options is None or isinstance(options, dict)
    return is_known and not (options or {}).get("include_usage")


def asking_for_usage(raw: Raw | None) -> Raw:
    """Return `stream_options` with the usage asked for; everything else in it stays."""
    options = {} if raw is None or bytes(raw) == b"null" else top_level(bytes(raw))
    return Raw(encoded(options | {"include_usage": Raw(b"true")}))
