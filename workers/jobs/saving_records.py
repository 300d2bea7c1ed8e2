"""What records tell of routed calls, and what was said of them: all that savings need. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.families import MOST
from bandit.saving_sums import CALL, TOKENS
from telemetry.events import Flag, Kind, PriceSource, Result
from workers.archive.columns import NamePairs, find
from workers.folding.batch import DAY_MS
from workers.folding.hearing import hear
from workers.folding.terms import FAILURES
from workers.jobs.choices_known import KnownChoices
from workers.jobs.episode_records import WORD, words_in
from workers.jobs.ways import halves_of, ranks_of, starts

NANO = 1e9
ATTEMPT = np.dtype(
    [
        ("nonce", "<u8"),
        ("nonce_rest", "<u8"),
        *((name, "<u8") for name in ("app", "task", "strategy", "release", "endpoint", "unit")),
        ("cost_nano", "<f8"),  # exact up to 9 million USD
        ("at_ms", "<i8"),
        ("tokens_in", "<u4"),
        ("tokens_out", "<u4"),
        ("day", "<i4"),
        ("propensity", "<f4"),
        ("predicted", "<f4"),
        ("rank", "<u2"),
        ("by_incumbent", "?"),
        ("explored", "?"),
        ("is_answer", "?"),
        ("is_failure", "?"),
        ("is_overtaken", "?"),
        ("is_estimated", "?"),
        ("is_unpriced", "?"),
    ]
)
_OF_TOKEN = {
    "app": "app",
    "task": "category",
    "strategy": "strategy",
    "release": "release_key",
    "endpoint": "drawn",
    "unit": "session",
    "propensity": "propensity",
    "predicted": "predicted",
}
NO_TRAFFIC = int(Flag.PROFILE | Flag.INGESTED)


def calls_of(
    batches: Iterable[NDArray[np.void]], *, since_ms: int, choices: KnownChoices | None = None
) -> NDArray[np.void]:
    """Return the routed calls that records tell of, as CALL; told twice they count once.

    Args:
        batches: of RECORD, in any order.
        since_ms: decisions from then on count.
        choices: what stood when; None: nothing is known of it.
    """
    attempts, words = [np.empty(0, ATTEMPT)], [np.empty(0, WORD)]
    for records in batches:
        mine = records.compress(records["token"]["decided_at_ms"] >= since_ms)
        is_outcome, flags = mine["kind"] == Kind.OUTCOME, mine["flags"]
        brings = is_outcome & (mine["feedback_kind"] > 0)
        words.append(words_in(mine.compress((mine["kind"] == Kind.FEEDBACK) | brings)))
        is_routed = ((flags & int(Flag.ROUTED)) > 0) & ((flags & NO_TRAFFIC) == 0)
        attempts.append(_attempts(mine.compress(is_outcome & is_routed)))
    return _calls(np.concatenate(attempts), np.concatenate(words), choices or KnownChoices())


class KnownCosts(NamedTuple):
    """What attempts cost, (n,) each."""

    nano: NDArray[np.float64]  # 0 where it is not known
    is_estimated: NDArray[np.bool_]  # it rests on estimated tokens
    is_unpriced: NDArray[np.bool_]  # something was used, and nobody knows its price


def known_costs(outcomes: NDArray[np.void]) -> KnownCosts:
    """Return what attempts cost."""
    flags = outcomes["flags"]
    estimated, told = (flags & Flag.ESTIMATED) > 0, (flags & Flag.USAGE_KNOWN) > 0
    priced = (flags & Flag.PRICED) > 0
    guessed = estimated & ~priced
    known = (priced | (guessed & (outcomes["price_source"] != PriceSource.NONE))) & (
        outcomes["cost_nano"] <= MOST
    )
    nano = np.where(known, outcomes["cost_nano"], 0).astype(np.float64)
    return KnownCosts(nano, guessed, (told | estimated) & ~known)


def _attempts(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return outcomes as ATTEMPT."""
    token, flags, result = outcomes["token"], outcomes["flags"], outcomes["result"]
    out = np.empty(len(outcomes), dtype=ATTEMPT)
    out["nonce"], out["nonce_rest"] = halves_of(token["nonce"])
    for name, of_token in _OF_TOKEN.items():
        out[name] = token[of_token]
    costs = known_costs(outcomes)
    out["cost_nano"] = costs.nano
    out["at_ms"] = token["decided_at_ms"]
    out["day"] = token["decided_at_ms"] // DAY_MS
    out["tokens_in"], out["tokens_out"] = outcomes["tokens_in"], outcomes["tokens_out"]
    out["rank"] = ranks_of(outcomes)
    out["by_incumbent"] = (flags & Flag.BY_INCUMBENT) > 0
    out["explored"] = (flags & Flag.EXPLORED) > 0
    out["is_answer"] = result == Result.OK
    out["is_overtaken"] = result == Result.OVERTAKEN
    out["is_failure"] = np.isin(result, FAILURES) & ~out["is_overtaken"]
    out["is_estimated"], out["is_unpriced"] = costs.is_estimated, costs.is_unpriced
    return out


def _calls(
    attempts: NDArray[np.void], words: NDArray[np.void], choices: KnownChoices
) -> NDArray[np.void]:
    order = ("cost_nano", "rank", "nonce_rest", "nonce")
    rows = attempts.take(np.lexsort([attempts[name] for name in order]))
    # Of an attempt that is told in two ways the costlier word holds.
    is_last = np.ones(len(rows), dtype=bool)
    is_last[:-1] = starts(*(rows[name] for name in order[1:]))[1:]
    rows = rows.compress(is_last)
    first = np.flatnonzero(starts(rows["nonce"], rows["nonce_rest"]))
    out = np.zeros(len(first), dtype=CALL)
    if not len(first):
        return out
    last = np.append(first[1:], len(rows)) - 1  # the answer that the client got
    for name in (*_OF_TOKEN, "day", "by_incumbent", "explored", *TOKENS):
        out[name] = rows[name][last]
    out["choice"] = choices.at(out, rows["at_ms"][last])

    def usd(mine: NDArray[np.bool_] | bool) -> NDArray[np.float64]:
        return np.asarray(np.add.reduceat(np.where(mine, rows["cost_nano"], 0.0), first) / NANO)

    def any_of(name: str) -> NDArray[np.bool_]:
        return np.asarray(np.logical_or.reduceat(rows[name], first))

    out["cost_usd"], out["estimated_usd"] = usd(True), usd(rows["is_estimated"])
    out["failed_usd"], out["beside_usd"] = usd(rows["is_failure"]), usd(rows["is_overtaken"])
    out["attempts"] = np.diff(first, append=len(rows))
    out["is_failed"] = any_of("is_failure") & ~any_of("is_answer")
    out["is_priced"] = ~any_of("is_unpriced")
    out["reward"] = _rewards(rows.take(first), words)
    return out


def _rewards(calls: NDArray[np.void], words: NDArray[np.void]) -> NDArray[np.float64]:
    """Return what holds of each call, as the learner hears it; NaN where nothing does.

    Args:
        calls: sorted by nonce.
    """
    said, place = find(
        calls["nonce"], calls["nonce_rest"], NamePairs(words["nonce"], words["nonce_rest"])
    )
    held = hear([None] * len(calls), place, words["word"][said]).after
    return np.where(held.is_rewarded, held.reward, np.nan)
