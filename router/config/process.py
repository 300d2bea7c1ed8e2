"""How the process itself runs: address, limits, state directory, store."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from router.config.keys import PlainKey
from router.config.places import STORE_PREFIX, state_directory
from router.endpoints.auth import AuthEntry
from router.endpoints.entry import Entry
from telemetry.keys import DEFAULT_PREFIX

MAX_HELD_BYTES = 256 << 20
"""Of all bodies held at once: four of the largest. Each is there twice while it is rewritten, so
this costs at most half a gigabyte."""
MAX_BYTES = 1 << 50
"""A pebibyte: no disk or memory of one machine holds more."""
LEAST_STORE_MB = 32
"""An empty server takes two, and posteriors of 40 endpoints in 40 tasks a dozen."""
PREFIX_HINT = "use 1 to 32 of a-z, 0-9, _ and -; the first a letter or a digit"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ServerEntry(Entry):
    """The sidecar's own address and limits.

    `max_in_flight` of 4,096 is twice the streams that one process passes on with ease (2,000 at one
    event a second); each holds two sockets and its body. `max_queued` unnamed: an eighth of it.
    """

    host: str = "127.0.0.1"
    """Address to listen on. Beyond this machine every app needs a key."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8787
    """Port to listen on. 0 takes any free one."""
    admin_key: PlainKey | None = None
    """Key for the owner's routes. Unset, they are open on loopback alone."""
    seal_secret: AuthEntry | None = None
    """What decision ids are sealed by. Unset, a key that the store's routers agree on."""
    seal_secret_before: AuthEntry | None = None
    """What sealed them before. Keep it for the 30 days that feedback counts."""
    deadline_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """For how many seconds a call may wait for content, over all attempts. Unset, what its client
    says it waits, else 600."""
    max_body_bytes: Annotated[int, Field(gt=0, le=256 << 20)] = 64 << 20
    """The largest body that is held whole, once decoded. Uploads stream through."""
    max_held_bytes: Annotated[int, Field(gt=0, le=MAX_BYTES)] = MAX_HELD_BYTES
    """All bodies that may be held at once. Each is there twice while it is rewritten."""
    drain_s: Annotated[float, Field(ge=0, le=600)] = 10.0
    """At the end: how many seconds an answer may send nothing before it is ended."""
    drain_most_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """At the end: how many seconds an answer that flows may take."""
    max_in_flight: Annotated[int, Field(gt=0, le=1_000_000)] = 4096
    """Calls under way at a time, streams until their end. The rest gets a 503."""
    max_queued: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    """How many of those may wait for a place. Unset, an eighth of `max_in_flight`."""
    explain_days: Annotated[float, Field(ge=0, le=365)] = 30.0
    """For how many days decisions are kept with their numbers. 0 keeps none."""
    explain_max_bytes: Annotated[int, Field(ge=16 << 20, le=MAX_BYTES)] = 1 << 30
    """The most that all files of decisions may take. The oldest go first."""
    state_dir: Path | None = None
    """Where journal, secrets, decisions and the private store lie. Unset, a directory of the
    user's."""

    @property
    def body_limit(self) -> int:
        """Bytes of the largest body that can be held."""
        return min(self.max_body_bytes, self.max_held_bytes)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

    @property
    def url(self) -> str:
        """Where it listens, as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def state_directory(self) -> Path:
        """Return where journal, keys and the private store live."""
        return state_directory(self.state_dir)


class ArchiveEntry(Entry):
    """How long records are kept after they were folded."""

    keep_days: Annotated[float, Field(ge=0, le=3650)] = 30.0
    """For how many days folded records are kept. 0 keeps none."""
    max_bytes: Annotated[int, Field(ge=64 << 20, le=MAX_BYTES)] = 8 << 30
    """The most that all files may take. The oldest go first."""
    every_s: Annotated[float, Field(ge=1, le=86_400)] = 3600.0
    """After how many seconds a file is written at the latest. One is written for each 64 MiB of
    stream as well."""


class OtelEntry(Entry):
    """Whether calls are told to OpenTelemetry; where to, its own environment variables say."""

    spans: bool = False
    """Of calls that come with a sampled `traceparent`."""


class AuditEntry(Entry):
    """How long it is kept what sensitive content left for where, and what was in force.

    400 days: whoever audits a year does so some weeks after its end.
    """

    keep_days: Annotated[float, Field(ge=1, le=3650)] = 400.0
    """For how many days the record is kept. 400 is a year and some weeks to ask about it."""


def _checked_prefix(value: str) -> str:
    if not re.fullmatch(STORE_PREFIX, value):
        raise ValueError(PREFIX_HINT)
    return value


class StoreEntry(Entry):
    """The store; without `url_env` it is `REDIS_URL`, else a private server."""

    url_env: str | None = None
    """Variable that holds the store's address. Unset, `REDIS_URL`, else a private server."""
    shards: Annotated[int, Field(ge=1, le=64)] = 4
    """Into how many parts the stream of events is divided. Chosen once, when the store is made."""
    prefix: Annotated[str, AfterValidator(_checked_prefix)] = DEFAULT_PREFIX
    """What every key begins with. Another one is another environment on the same server."""
    young_hours: Annotated[int, Field(ge=1, le=720)] = 24
    """For how many hours the store keeps what names a decision and what was said of it. Older ones
    are found in the archive."""
    max_mb: Annotated[int, Field(ge=LEAST_STORE_MB, le=MAX_BYTES >> 20)] | None = None
    """Megabytes of memory that the store may use. Unset, 256 for a private server; for any other
    what its own `maxmemory` says."""
    explain_store_mb: Annotated[int, Field(ge=0, le=MAX_BYTES >> 20)] = 64
    """Megabytes of it for recent decisions, which every router can then explain. 0 keeps none
    there."""

    def url(self) -> str | None:
        """Return the configured URL, if any."""
        return os.environ.get(self.url_env) if self.url_env else None
