"""What names the decisions of outcomes: ids of answers, callers' references, episodes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from telemetry.decisions import Decisions
from telemetry.events import NO_DIGEST, Flag
from telemetry.young import SPAN_MS


@dataclass(frozen=True, slots=True)
class Named:
    """Decisions, and what names them."""

    decisions: Decisions
    spans: NDArray[np.int64]  # (n_names,) in which the decision was made
    places: NDArray[np.intp]  # (n_names,) which decision each one names
    digests: NDArray[np.void]  # (n_names,) of 16 bytes each

    def of(self, picked: NDArray[np.bool_]) -> Named:
        """Return these with some of the names."""
        return Named(self.decisions, self.spans[picked], self.places[picked], self.digests[picked])


def references_of(outcomes: NDArray[np.void]) -> Named:
    """Return the decisions of final outcomes, and what names them.

    As `names_of` has it.
    """
    final = outcomes.compress(_is_final(outcomes))
    places, digests = names_of(final)
    spans = final["token"]["decided_at_ms"] // SPAN_MS
    return Named(Decisions.of(final["token"]), spans[places], places, digests)


def references_of_each(outcomes: NDArray[np.void], sizes: Sequence[int]) -> list[Named]:
    """Return the same of each shard's outcomes, told apart.

    Args:
        sizes: how many of the outcomes, which stand one shard's behind the other's, are of each.
    """
    whole = references_of(outcomes)
    if len(sizes) == 1:
        return [whole]
    bounds = np.concatenate([[0], np.cumsum(_is_final(outcomes))])[[0, *np.cumsum(sizes)]]
    # Of one sort of names after the other, each in the order of the decisions.
    shard = np.searchsorted(bounds, whole.places, side="right") - 1
    return [
        Named(
            whole.decisions.part(slice(begin, end)),
            whole.spans[mine],
            whole.places[mine] - begin,
            whole.digests[mine],
        )
        for number, (begin, end) in enumerate(pairwise(bounds.tolist()))
        for mine in [np.flatnonzero(shard == number)]
    ]


def names_of(final: NDArray[np.void]) -> tuple[NDArray[np.intp], NDArray[np.void]]:
    """Return what final outcomes are named by: (n_names,) which of them, and 16 bytes each.

    A decision whose id left before it was known who would answer is named by its nonce as well, and
    the first one of its role and endpoint by its episode. Of one name they are as they came.
    """
    nothing, flags = np.void(NO_DIGEST), final["flags"]
    names = [final["response"], final["reference"]]
    names.append(np.where((flags & Flag.PROMISED) > 0, final["token"]["nonce"], nothing))
    if (by_episode := (flags & Flag.NAMES_EPISODE) > 0).any():
        names.append(np.where(by_episode, episode_names(final["episode"]), nothing))
    digests = np.concatenate(names)
    given = np.flatnonzero(digests != nothing)
    return given % max(len(final), 1), digests.take(given)


def episode_names(episodes: NDArray[np.uint64]) -> NDArray[np.void]:
    """Return (n,) `digests.episode_name` of digests; 0, of no episode, has none."""
    return np.repeat(episodes.astype("<u8"), 2).view("V16")


def final_tokens(outcomes: NDArray[np.void]) -> NDArray[np.void]:
    """Return the whole tokens of the decisions that `references_of` returns, in their order."""
    return np.asarray(outcomes.compress(_is_final(outcomes))["token"])


def _is_final(outcomes: NDArray[np.void]) -> NDArray[np.bool_]:
    return np.asarray((outcomes["flags"] & Flag.FINAL) > 0)
