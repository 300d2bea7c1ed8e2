"""What live checks found of endpoints, as reports read it."""

from __future__ import annotations

from collections.abc import Mapping

from router.config.places import NoHome
from router.config.process import ServerEntry
from router.endpoints.verified import NOTHING, Verified, read_verified


def verified_of(server: ServerEntry) -> Mapping[int, Verified]:
    """Return by endpoint digest what is kept in the state directory; nothing where none is."""
    try:
        return read_verified(server.state_directory())
    except NoHome:
        return NOTHING
