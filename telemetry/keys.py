"""Every name in the store. Nothing else in the project spells one, but rq its own (`rq:`).

Keys of one shard share a hash tag, so that one script may touch them all on a cluster. All begin
with the prefix of this process, so that two environments may share a server and nothing else.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import cache
from itertools import count

META = "pm:meta"  # hash, permanent: schema, shards, incarnation, key of the raters' ranks
NAMES = "pm:names"  # hash, permanent: digest -> what it stands for
OFF = "pm:off"  # string, permanent, while it is the last word: when it was said, and since when
ON = "{pm:off}:on"  # the same of the word that routing is on; in one slot with it
STANDINGS = "{pm:choices}:standings"  # hash, permanent: scope -> what its choices stand at
RELEASES = "{pm:choices}:releases"  # stream, bounded: each choice that changed, with its evidence
TRIALS = "{pm:choices}:trials"  # hash, pruned of those ended 400 days ago: id -> the trial
COMPARED = "pm:compared"  # hash, pruned with their trials: id (:h of its hold-out) -> packed sums
VERDICTS = "pm:verdicts"  # string, permanent: what trials and hold-outs show, and a week's traffic
PROPOSALS = "{pm:choices}:proposals"  # hash, pruned as they lapse: id -> a release that waits
CHANGES = "{pm:changes}:told"  # stream, bounded: what happened to endpoints, prices and routers
CHANGE_IDS = "{pm:changes}:ids"  # sorted set, bounded: ids of what was told there, so as not twice
CHANGES_KNOWN = "{pm:changes}:known"  # hash, pruned as it ends: what of -> as it was last told
NOTICES = "{pm:changes}:notices"  # hash, pruned of receivers unused for 30 days: how far each is
ROUTERS = "pm:routers"  # hash, pruned of those silent for a day: router -> what it says of itself
DRIFT = "{pm:drift}:state"  # hash, permanent: endpoint -> what is known; last closed bucket
LOOKED_AT = "{pm:drift}:seen"  # hash, permanent: endpoint -> its labels as of the last look
ALARMS = "{pm:drift}:alarms"  # stream, bounded: each alarm and split, with its evidence
PROMPTS = "{pm:drift}:prompts"  # hash, permanent: task -> its epoch, and the versions named in it
SERVED = (
    "pm:served"  # hash, permanent: what of it:endpoint:mark:name -> under which names it answered
)
TRAIL_KEEPER = "pm:trail"  # string with a time to live: which archive takes the audit trail
ARCHIVER = "pm:archiver"  # string with a time to live: which archive takes the records
AUDIT = "pm:audit"  # string, permanent: what the last audit of the state found
CALIBRATION = "pm:calibration"  # string, permanent: how often predictions held, by endpoint
AVAILABILITY = "pm:availability"  # string, permanent: how often endpoints answered in 30 days
EPISODES = "pm:episodes"  # string, permanent: what episodes came to in 30 days, by app
SAVINGS = "pm:savings"  # hash, pruned after 800 days: day -> sums of what routing saved
SUGGESTIONS = "pm:suggestions"  # string, permanent: which tasks prompts of `general` look like
CHANGED = "pm:changed"  # pub/sub channel: a shard has a new version
SECRET = "pm:secret"  # noqa: S105 - a key of the store. String, permanent: what digests of users are keyed with
DRAWS_SECRET = "pm:secret:draws"  # noqa: S105 - a key of the store. String, permanent: what draws follow from
SEAL = "pm:seal"  # string, permanent: the key that seals decision ids
SEALS = "pm:seals"  # hash, pruned of those unused for 31 days: key that seals or did -> when, in ms
FORGOTTEN = "pm:forgotten"  # hash with a time to live: user's keyed hash -> when it went, in ms
PASSED = "pm:passed"  # hash, pruned of those silent for an hour: producer -> how far it is, in ms
RAISED = "pm:raised"  # sorted set with a time to live: session or unit -> since when to ask, ms
MEMORY = "pm:memory"  # string, permanent: what the store's memory is used for, as last measured
JOBS_TROUBLE = "pm:jobs:trouble"  # string with a time to live: why a worker runs no jobs
PROBE = "pm:probe"  # never made: what asks whether the store would take a write, and a script
EXPLAINED = (
    "{pm:explain}:segments"  # hash with a time to live: which segments of decisions there are
)
SPENT_TOP = "pm:spent:top"  # hash, pruned after days: table:day -> names with rows of their own
TAG_NAMES = "pm:spent:tags"  # hash, permanent, bounded: digest of a tag, in hex -> key=value
BUDGET_WARNED = "pm:budget:warned"  # hash, pruned after 40 days: account:start:percent:limit -> it
BUDGET_PRICES = "pm:budget:prices"  # hash, pruned of accounts that ended: digest -> price and pace
BUDGET_NAMES = "pm:budget:names"  # hash, pruned a day after a period: digest:user -> account's name
ENDED = "pm:ended"  # hash, pruned after 40 days: producer -> where its journal ended, and when
SPANS = "pm:spans"  # hash, permanent: shard -> its last entry of which spans were told
SPANS_TELLER = "pm:spans:teller"  # string with a time to live: which process tells of spans
WORKERS = "pm:workers"  # sorted set with a time to live: worker -> when its word runs out, in ms

DEFAULT_PREFIX = "pm"
_prefix = DEFAULT_PREFIX
_FIXED = {name: value for name, value in globals().items() if name.isupper() and ":" in str(value)}

SLOTS = 16_384
"""Of every cluster; a key's slot is the CRC16 of its hash tag."""
CONVERSATION_GROUPS = 16
"""As many hash tags have conversations, over which a cluster spreads them."""
STORED_ID_GROUPS = 16
"""As many have ids of what lies at providers."""


def use_prefix(prefix: str) -> None:
    """Have every key of this process begin with `prefix`; said once, before anything is asked for.

    Args:
        prefix: lower-case letters, digits, _ and - only, as the configuration checks.
    """
    global _prefix
    _prefix = prefix
    tag.cache_clear()
    conversations.cache_clear()
    stored_ids.cache_clear()
    named = {
        name: value.replace(f"{DEFAULT_PREFIX}:", f"{prefix}:", 1) for name, value in _FIXED.items()
    }
    globals().update(named)


def prefix() -> str:
    """Return what every key of this process begins with."""
    return _prefix


@cache
def tag(shard: int) -> str:
    """Return a shard's hash tag, with a suffix that spreads shards evenly over slots.

    The slots of plain numbers crowd: of 8 shards on three nodes, one would get 4. Here the bits
    of the number, in reverse, are the first bits of the slot.
    """
    first = int(f"{shard:08b}"[::-1], 2) * (SLOTS >> 8)
    return _tag_within(f"{_prefix}:{shard}", first, SLOTS >> 8)


def _tag_within(name: str, first: int, n_slots: int) -> str:
    """Return the name with a suffix that brings it into some of a cluster's slots."""
    for suffix in count():
        found = f"{name}.{suffix}"
        if 0 <= crc_hqx(found.encode(), 0) % SLOTS - first < n_slots:
            return found
    raise AssertionError("CRC16 reaches every slot")


def draw(unit: str) -> str:
    """String with a time to live: what one unit was given.

    One of an earlier version may be a conversation; later ones lie in `conversations_of`.
    """
    return f"{_prefix}:draw:{unit}"


def draws_of(user: str) -> str:
    """Return the pattern of the draws of one user's units, of their stand-ins and sessions."""
    return f"{draw(user)}*"


def session(key: str) -> str:
    """String with a time to live: what the calls of one session said; `draws_of` its user has it.

    It is there only where a call named a class of data, or a rule found the task.
    """
    return f"{draw(key)}:said"


@cache
def conversations(group: int) -> str:
    """Hash with a time to live: which spans a group of conversations has, and their parts."""
    n_slots = SLOTS // CONVERSATION_GROUPS
    return f"{{{_tag_within(f'{_prefix}:talks{group}', group * n_slots, n_slots)}}}"


def conversations_of(group: int, part: str) -> str:
    """Hash with a time to live: last bytes of keys -> what conversations of a span were given.

    Args:
        part: the span, a colon, parts of the generation, a dot, which of them; "" for what all
            names begin with.
    """
    return f"{conversations(group)}:{part}"


@cache
def stored_ids(group: int) -> str:
    """Hash with a time to live: which days a group of stored ids has, their parts and makers."""
    n_slots = SLOTS // STORED_ID_GROUPS
    return f"{{{_tag_within(f'{_prefix}:ids{group}', group * n_slots, n_slots)}}}"


def stored_ids_of(group: int, part: str) -> str:
    """String with a time to live: marks of a day's ids, and who made each; up to schema 5 a hash.

    Args:
        part: as of `conversations_of`.
    """
    return f"{stored_ids(group)}:{part}"


def explained(part: str) -> str:
    """List and hash with a time to live: a segment's packed decisions (`r` and its number), and
    the parts that they share (`p` and it); in one slot with `EXPLAINED`.

    Args:
        part: letter and number; "" for what all names begin with.
    """
    return f"{{{_prefix}:explain}}:{part}"


def notice_sender(receiver: str) -> str:
    """String with a time to live: which router sends notices to a receiver."""
    return f"{{{_prefix}:changes}}:sender:{receiver}"


def is_draw(name: bytes) -> bool:
    """Return whether a key holds a draw, or those of many conversations."""
    return name.startswith((draw("").encode(), f"{{{_prefix}:talks".encode()))


def is_stored_id(name: bytes) -> bool:
    """Return whether a key holds who made many ids."""
    return name.startswith(f"{{{_prefix}:ids".encode())


def stream(shard: int) -> str:
    """Stream, trimmed behind what is folded and archived: frames.

    Behind the last shard comes the audit trail, trimmed behind what is archived.
    """
    return f"{{{tag(shard)}}}:ev"


def trail_mark(n_shards: int) -> str:
    """String, permanent: the last entry of the audit trail that is archived.

    The trail's own stream follows those of the shards: `stream(n_shards)`.
    """
    return f"{{{tag(n_shards)}}}:trail"


def meta(shard: int) -> str:
    """Hash, permanent: mark, token, owner, version, archived mark and counters of a shard."""
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
    """Hash, pruned of producers silent for long: producer -> next record number, time."""
    return f"{{{tag(shard)}}}:producers"


def labels(shard: int, span: int, part: str) -> str:
    """Hash with a time to live: last bytes of nonces -> what was said of a span's decisions.

    Args:
        span: `young.span_of` the decisions.
        part: parts of the generation, a dot, which of them; "" for what all names begin with.
    """
    return f"{{{tag(shard)}}}:said:{span}:{part}"


def labels_of_day(shard: int, day: int) -> str:
    """Hash with a time to live: nonce -> what was said of a day's decisions, up to schema 4."""
    return f"{{{tag(shard)}}}:labels:{day}"


def raters(shard: int, day: int) -> str:
    """Hash with a time to live: rater and cell -> tokens of the day's decisions that count."""
    return f"{{{tag(shard)}}}:raters:{day}"


def references(shard: int, span: int | str, part: str) -> str:
    """Hash with a time to live: last bytes of digests -> packed decisions that they name.

    Args:
        span: `young.span_of` the decisions.
        part: as of `labels`.
    """
    return f"{{{tag(shard)}}}:named:{span}:{part}"


def references_of_days(shard: int, bucket: int) -> str:
    """Hash with a time to live: digest -> whole tokens of some days' decisions, up to schema 4."""
    return f"{{{tag(shard)}}}:refs:{bucket}"


def parts(shard: int) -> str:
    """Hash, pruned of spans that are old: span -> its generations, and when it changed last."""
    return f"{{{tag(shard)}}}:parts"


def sizes(shard: int) -> str:
    """Hash, pruned of spans that are old: generation -> how many fields its parts have in all."""
    return f"{{{tag(shard)}}}:sizes"


def kinds(shard: int) -> str:
    """Hash, permanent: number -> the kind of decisions that has it; `id` -> of this very table."""
    return f"{{{tag(shard)}}}:kinds"


def thawed(shard: int) -> str:
    """Hash, pruned of rows that were put there an hour ago: nonces of old decisions -> when they
    were put there, and all that was said. Whoever sends a record with the flag `THAWED` writes the
    row first, also where nothing was said, and those of the decisions that sit beside a rater's.
    """
    return f"{{{tag(shard)}}}:thawed"


def cold(shard: int) -> str:
    """Hash, emptied as they are folded: event id and nonce -> feedback for old decisions."""
    return f"{{{tag(shard)}}}:cold"


def ingested(shard: int, span: int) -> str:
    """Set with a time to live: nonces of the ingested outcomes that came in one span of days."""
    return f"{{{tag(shard)}}}:ingested:{span}"


def held(shard: int) -> str:
    """Hash, pruned after a day: feedback that waits for its decision, by its event id."""
    return f"{{{tag(shard)}}}:held"


def due(shard: int) -> str:
    """Sorted set, pruned after a day: event id of feedback by reference -> when to look at it."""
    return f"{{{tag(shard)}}}:due"


def chosen(shard: int) -> str:
    """Hash, pruned after ten minutes: event id -> the decisions that a feedback means."""
    return f"{{{tag(shard)}}}:chosen"


def sought(shard: int) -> str:
    """Hash, emptied with `held`: event id of feedback that means nothing young -> when the archive
    was asked and had nothing either, in ms; empty where it is yet to be asked.
    """
    return f"{{{tag(shard)}}}:sought"


def dead(shard: int) -> str:
    """Stream, bounded: records that could not be folded, with the reason."""
    return f"{{{tag(shard)}}}:dead"


def spent(shard: int, table: str, span: int) -> str:
    """Hash, packed into a block after its day: key of a row -> packed sums of the ledger.

    Args:
        table: `LedgerTable`.
        span: hour or day since the epoch, as `ledger_rows.SPAN_MS` says of the table.
    """
    return f"{{{tag(shard)}}}:spent:{table}:{span}"


def spent_spans(shard: int) -> str:
    """Hash, pruned as they are packed: table:span that has loose rows -> mark of the last one."""
    return f"{{{tag(shard)}}}:spent:spans"


def spent_block(shard: int, table: str, day: int) -> str:
    """String, pruned after 800 days: the packed rows of a table's day (`ledger_blocks`)."""
    return f"{{{tag(shard)}}}:spent:block:{table}:{day}"


def spent_blocks(shard: int) -> str:
    """Hash, pruned after 800 days: table:day that has a block -> its digest, and what it sums to
    (`ledger_blocks.BlockEntry`).
    """
    return f"{{{tag(shard)}}}:spent:blocks"


def spent_gone(shard: int) -> str:
    """Set, emptied by pruning: keyed hashes of users whose rows in blocks count as others'."""
    return f"{{{tag(shard)}}}:spent:gone"


def budget_rows(shard: int, day: int) -> str:
    """Hash, pruned a week later: what is folded of accounts of budgets whose periods end that day.

    Args:
        day: since the epoch.
    """
    return f"{{{tag(shard)}}}:budgets:{day}"


def budget_days(shard: int) -> str:
    """Set, pruned with them: the days of `budget_rows` that there are."""
    return f"{{{tag(shard)}}}:budgets"


def budget(digest: int, period_start_s: int) -> str:
    """Hash with a time to live: account of a budget's period: holder -> what it took, and sums.

    Args:
        digest: of whose budget it is; all its periods lie in one slot.
        period_start_s: when the period began, in epoch seconds.
    """
    return f"{{{_prefix}:budget:{digest:016x}}}:{period_start_s}"


def budgets() -> str:
    """Return the pattern of all accounts, and of what lies beside them."""
    return f"{{{_prefix}:budget:*"


def account_of(name: bytes) -> tuple[int, int] | None:
    """Return digest and beginning of the account whose key this is; None of any other."""
    digest, _, start_s = name.removeprefix(f"{{{_prefix}:budget:".encode()).partition(b"}:")
    try:
        found = int(digest, 16), int(start_s)
    except ValueError:
        return None
    return found if budget(*found).encode() == name else None


def rate(digest: int, minute_s: int) -> tuple[str, str]:
    """Hash and sorted set with a time to live: a provider's limit in a minute, as `budget` has."""
    account = f"{{{_prefix}:rate:{digest:016x}}}:{minute_s}"
    return account, f"{account}:live"


def budget_live(digest: int, period_start_s: int) -> str:
    """Sorted set with a time to live: holders of that account -> when their leases end, in ms."""
    return f"{budget(digest, period_start_s)}:live"
