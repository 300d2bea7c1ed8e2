"""Where keys of callers stand in the file, and by which ids people name them.

Of a key whose digest is written the id is the digest's beginning. Of others it is their source:
a digest of theirs, which nobody wrote down, would let a weak key be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from router.config.keys import DEFAULT_APP, HASHED, is_hashed, short_id
from router.config.lines import shown, spot_of
from router.config.masking import HIDDEN, Place, is_name_of_variable, masked
from router.config.tree import Tree

LEAST_DIGITS = 6
"""Of a digest, to name a key by: among thousand keys two begin alike once in 34 files."""


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A key as the file names it."""

    place: str
    app: str | None  # None: the admin's
    id: str  # fit to be shown
    line: int
    digest: str = ""  # where it is written

    def is_meant_by(self, id_: str) -> bool:
        """Return whether a text names the key: its id, or digits that its digest begins with."""
        digits = id_.lower().removeprefix(HASHED)
        begins = self.digest.startswith(f"{HASHED}{digits}") and len(digits) >= LEAST_DIGITS
        return begins or (id_ == self.id != HIDDEN)


def find_keys(tree: Tree) -> list[KeyLine]:
    """Return the keys in a file, in its order; what is wrong with it otherwise does not matter."""
    lines = []
    for where, app, value in _keys(tree.root):
        line = spot_of(tree.findings.spots, where).line
        digest = value.lower() if isinstance(value, str) and is_hashed(value) else ""
        place = masked(shown(where))
        lines.append(KeyLine(place, app, short_id(digest) or _source(value), line, digest))
    return lines


def line_of_app(tree: Tree, name: str) -> int | None:
    """Return where an app stands in the file; None where it does not."""
    spot = tree.findings.spots.get(("apps", name))
    return spot.line if spot is not None else None


def _keys(root: dict[str, Any]) -> Iterator[tuple[Place, str | None, Any]]:
    """Yield each key's place, app and value."""
    server = root.get("server")
    if isinstance(server, dict) and server.get("admin_key") is not None:
        yield ("server", "admin_key"), None, server["admin_key"]
    for section in ("apps", "users"):
        named = root.get(section)
        for name, entry in named.items() if isinstance(named, dict) else ():
            keys = entry.get("keys") if isinstance(entry, dict) else None
            app = name if section == "apps" else _app_of(entry)
            for i, value in enumerate(keys if isinstance(keys, list) else ()):
                at: Place = (section, name, "keys", i)
                if isinstance(value, dict) and "key" in value:
                    yield (*at, "key"), app, value["key"]
                else:
                    yield at, app, value


def _app_of(user: Any) -> str:
    named = user.get("app") if isinstance(user, dict) else None
    return named if isinstance(named, str) else DEFAULT_APP


def _source(value: Any) -> str:
    """Return where a key is found, as it may be shown."""
    for kind in ("env", "file"):
        named = value.get(kind) if isinstance(value, dict) else None
        if isinstance(named, str):
            is_fit = is_name_of_variable(named) if kind == "env" else masked(named) == named
            return f"{kind}:{named}" if is_fit and named.isprintable() else HIDDEN
    return HIDDEN
