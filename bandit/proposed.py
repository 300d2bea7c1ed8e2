"""How surely a release that waits for somebody's yes would still be made.

It is proposed at the odds that a release takes, and lapses below lower ones, so that chance near
the bar does not take away what was just proposed.
"""

from __future__ import annotations

import numpy as np

from bandit.incumbent import contrast, p_better, price_sd
from bandit.ordering import Ordering
from bandit.orders import FIRST, why_left
from bandit.posterior import Posterior
from bandit.utility import Objective, may_judge

HOLDS = 0.8
"""P(better), or P(ahead in the order), below which a proposal lapses; .9 makes one."""


def odds_of_belief(
    posterior: Posterior, objective: Objective, task: int, before: int, after: int
) -> float:
    """Return P(utility of `after` > that of `before`), the least where the objective has slack.

    0 where the labels of one of the two do not suffice for a verdict (any more).
    """
    if not may_judge(posterior)[task, [before, after]].all():
        return 0.0
    odds = []
    for extreme in objective.extremes():
        mean, sd = contrast(posterior, extreme, task, before)
        sd = np.hypot(sd, price_sd(posterior, extreme, task, before))
        odds.append(float(p_better(mean, sd)[after]))
    return min(odds)


def odds_of_order(ordering: Ordering, before: int, after: int, *, reason: str) -> float:
    """Return P(`after` comes before `before` in the order); 0 where it does not qualify (any more).

    What was proposed because `before` fell or fails has no odds: 1 as long as that is so.
    """
    if not ordering.qualified()[after]:
        return 0.0
    if reason == FIRST:
        return float(ordering.p_ahead(before)[after])
    return float(why_left(ordering, before) == reason)
