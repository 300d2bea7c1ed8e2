"""Every name in the store. Nothing else in the project spells one.

Keys of one shard share a hash tag, so that one script may touch them all on a cluster.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from itertools import count

META = "pm:meta"  # hash, permanent: schema, shards, incarnation
NAMES = "pm:names"  # hash, permanent: digest -> what it stands for
OFF = "pm:off"  # string, permanent: present while routing is switched off
STANDINGS = "{pm:choices}:standings"  # hash, permanent: scope -> what its choices stand at
RELEASES = "{pm:choices}:releases"  # stream, bounded: each choice that changed, with its evidence
CHANGED = "pm:changed"  # pub/sub channel: a shard has a new version
WORKERS = "pm:workers"  # sorted set with a time to live: worker -> when its word runs out, in ms

SLOTS = 16_384
"""Of every cluster; a key's slot is the CRC16 of its hash tag."""


@cache
def tag(shard: int) -> str:
    """Return a shard's hash tag, with a suffix that spreads shards evenly over slots.

    The slots of plain numbers crowd: of 8 shards on three nodes, one would get 4. Here the bits
    of the number, in reverse, are the first bits of the slot.
    """
    first = int(f"{shard:08b}"[::-1], 2) * (SLOTS >> 8)
    for suffix in count():
        found = f"pm:{shard}.{suffix}"
        if 0 <= crc_hqx(found.encode(), 0) % SLOTS - first < SLOTS >> 8:
            return found
    raise AssertionError("CRC16 reaches every slot")


def draw(unit: str) -> str:
    """String with a time to live: what one unit was given."""
    return f"pm:draw:{unit}"


def stream(shard: int) -> str:
    """Stream, trimmed behind the mark: frames."""
    return f"{{{tag(shard)}}}:ev"


def meta(shard: int) -> str:
    """Hash, permanent: mark, token, owner, version and counters of a shard."""
    return f"{{{tag(shard)}}}:meta"


def lease(shard: int) -> str:
    """String with a time to live: who folds the shard."""
    return f"{{{tag(shard)}}}:lease"


def rows(shard: int) -> str:
    """Hash, permanent, pruned of stale windows: row key -> sums."""
    return f"{{{tag(shard)}}}:rows"


def touched(shard: int) -> str:
    """Sorted set, permanent: row key -> version of its last change."""
    return f"{{{tag(shard)}}}:touched"


def producers(shard: int) -> str:
    """Hash, pruned of producers silent for long: producer -> next record number."""
    return f"{{{tag(shard)}}}:producers"


def labels(shard: int, day: int) -> str:
    """Hash with a time to live: nonce -> what was said of the decisions of one day."""
    return f"{{{tag(shard)}}}:labels:{day}"


def reference(shard: int, digest: str) -> str:
    """List with a time to live: tokens of the decisions that a reference names."""
    return f"{{{tag(shard)}}}:ref:{digest}"


def held(shard: int) -> str:
    """Hash, pruned after a day: feedback that waits for its decision."""
    return f"{{{tag(shard)}}}:held"


def dead(shard: int) -> str:
    """Stream, bounded: records that could not be folded, with the reason."""
    return f"{{{tag(shard)}}}:dead"
