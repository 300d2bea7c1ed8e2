"""Every name in the store. Nothing else in the project spells one, but rq its own (`rq:`).

Keys of one shard share a hash tag, so that one script may touch them all on a cluster.
"""

from __future__ import annotations

META = "pm:meta"  # hash, permanent: schema, shards, incarnation
NAMES = "pm:names"  # hash, permanent: digest -> what it stands for
OFF = "pm:off"  # string, permanent: present while routing is switched off
STANDINGS = "{pm:choices}:standings"  # hash, permanent: scope -> what its choices stand at
RELEASES = "{pm:choices}:releases"  # stream, bounded: each choice that changed, with its evidence
ARCHIVER = "pm:archiver"  # string with a time to live: which archive takes the records
AUDIT = "pm:audit"  # string, permanent: what the last audit of the state found
CALIBRATION = "pm:calibration"  # string, permanent: how often predictions held, by endpoint
CHANGED = "pm:changed"  # pub/sub channel: a shard has a new version


def draw(unit: str) -> str:
    """String with a time to live: what one unit was given."""
    return f"pm:draw:{unit}"


def stream(shard: int) -> str:
    """Stream, trimmed behind what is folded and archived: frames."""
    return f"{{pm:{shard}}}:ev"


def meta(shard: int) -> str:
    """Hash, permanent: mark, token, version, archived mark and counters of a shard."""
    return f"{{pm:{shard}}}:meta"


def lease(shard: int) -> str:
    """String with a time to live: who folds the shard."""
    return f"{{pm:{shard}}}:lease"


def rows(shard: int) -> str:
    """Hash, permanent, pruned of stale windows: row key -> sums."""
    return f"{{pm:{shard}}}:rows"


def touched(shard: int) -> str:
    """Sorted set, permanent: row key -> version of its last change."""
    return f"{{pm:{shard}}}:touched"


def producers(shard: int) -> str:
    """Hash, pruned of producers silent for long: producer -> next record number, time."""
    return f"{{pm:{shard}}}:producers"


def labels(shard: int, day: int) -> str:
    """Hash with a time to live: nonce -> what was said of the decisions of one day."""
    return f"{{pm:{shard}}}:labels:{day}"


def references(shard: int, bucket: int) -> str:
    """Hash with a time to live: digest -> tokens of the decisions of some days that it names."""
    return f"{{pm:{shard}}}:refs:{bucket}"


def ingested(shard: int, span: int) -> str:
    """Set with a time to live: nonces of the ingested outcomes that came in one span of days."""
    return f"{{pm:{shard}}}:ingested:{span}"


def held(shard: int) -> str:
    """Hash, pruned after a day: feedback that waits for its decision."""
    return f"{{pm:{shard}}}:held"


def dead(shard: int) -> str:
    """Stream, bounded: records that could not be folded, with the reason."""
    return f"{{pm:{shard}}}:dead"
