"""Shards of a round, folded in one pass.

Most of what a small round costs is the same for ten records and for hundreds. So those of all
shards are decoded and worked out together, with the shard as a part of each row's name, and told
apart again: each shard's commit holds what it would alone, with a mark and a token of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from bandit.owned import add_each
from telemetry.events import Flag, Kind
from telemetry.scripts import Argument, Ready, ask, run_all
from telemetry.store import Client
from workers.folding.asking import Folding
from workers.folding.batch import Batch, Entries, joined, put_in, unframed
from workers.folding.effects import effects_of_each
from workers.folding.forgetting import parts_of
from workers.folding.naming import references_of_each
from workers.folding.spending import book_each, spent_in_each

if TYPE_CHECKING:
    from workers.folding.shard import Shard

Work = Sequence[tuple["Shard", Entries, int]]
"""Shards, their next entries, and the tokens of their leases."""


def fold_together(client: Client, work: Work) -> list[int | None]:
    """Fold entries of several shards; return of each how many records took effect.

    None where mark or token in the store are not ours: nothing was written of that one. The store
    is asked once for all shards (twice where raters may displace one another's decisions), and once
    given all commits, each of which stands for itself. Of a shard whose entries have somebody
    forgotten no more is folded than up to there: the others come with the next read.

    Raises:
        redis.RedisError: what was committed is not known; load the shards anew.
    """
    foldings, whole = _begin(work)
    replies = _ask_all(client, [folding.questions() for folding in foldings])
    shards = [shard for shard, _, _ in work]
    asked = zip(shards, foldings, replies, strict=True)
    beside = _ask_all(client, [shard.ask_beside(folding, own) for shard, folding, own in asked])
    known = [
        shard.learn(folding, [*own, *more])
        for shard, folding, own, more in zip(shards, foldings, replies, beside, strict=True)
    ]
    batches = [folding.batch for folding in foldings]
    if whole.contents.has(Flag.INGESTED):  # some may have been told before
        whole = joined(batches)
    found = effects_of_each(batches, known, whole)
    after = add_each([own.terms for own in found], [shard.stored for shard in shards])
    booked = book_each(
        [
            shard.ledger.learn(folding.booking, folding.batch, folding.known_rows)
            for shard, folding in zip(shards, foldings, strict=True)
        ]
    )
    named = references_of_each(whole.of_kind(Kind.OUTCOME), [own.n_outcomes for own in found])
    each = zip(shards, foldings, found, after, booked, named, strict=True)
    commits = [shard.commit_of(*rest) for shard, *rest in each]
    ready = [
        Ready(commit, shard.mark, token, folding.changes.mark)
        for (shard, _, token), folding, commit in zip(work, foldings, commits, strict=True)
    ]
    versions = run_all(client, ready)
    return [
        shard.end(folding, version) if version >= 0 else None
        for shard, folding, version in zip(shards, foldings, versions, strict=True)
    ]


def _begin(work: Work) -> tuple[list[Folding], Batch]:
    """Take the entries of shards apart; return each one's, and the records of all."""
    parts = [next(parts_of(entries)) for _, entries, _ in work]
    batches = [Batch.empty() for _ in work]
    bodies = [
        unframed(batch, part, shard.windows, expected=shard.expected)
        for batch, part, (shard, _, _) in zip(batches, parts, work, strict=True)
    ]
    whole = put_in(list(zip(batches, bodies, strict=True)))
    spent = spent_in_each(batches, whole)
    return [
        shard.begin_with(batch, part, own)
        for (shard, _, _), batch, part, own in zip(work, batches, parts, spent, strict=True)
    ], whole


def _ask_all(client: Client, questions: list[list[tuple[Argument, ...]]]) -> list[list[Any]]:
    """Return the replies to each one's commands, asked for all at once."""
    replies = iter(ask(client, [question for own in questions for question in own]))
    return [list(islice(replies, len(own))) for own in questions]
