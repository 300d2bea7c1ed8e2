"""Families of statistics, and what their columns hold.

Books, signals, teaching and roles never fade: they say what exploring has cost, what labels were
read off, whose they are, and what came in which role.
"""

from __future__ import annotations

from enum import IntEnum

_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
REAL_SCALE = 1 << 16
"""Fixed-point scale of rewards and logarithms: 1.5e-5 steps, far below their noise."""


class Family(IntEnum):
    """A group of statistics that shares a half-life."""

    QUALITY = 1
    USAGE = 2
    LATENCY = 3
    RELIABILITY = 4
    BOOKS = 5  # of routed calls, kept under the release key's digest in place of the category's
    DERIVED = 6  # labels that the sidecar read off calls by itself
    SIGNALS = 7  # what labels were read off
    TEACHING = 9  # labels by app, kept under `teaching.key_of` in place of the category
    WATCH = 10  # labels by which a change is told: of decisions that this sidecar made
    ROLES = 11  # calls in a role and their labels, kept under `parts.key_of`
    CHAINS = 12  # what came after calls: further attempts, and the same asked again


RETIRED = 8
"""The family of residuals. Rows of it that an earlier version left are read by nobody."""
HALF_LIFE_MS = {
    Family.QUALITY: 14 * _DAY_MS,
    Family.USAGE: 14 * _DAY_MS,
    Family.LATENCY: 60 * _MINUTE_MS,
    Family.RELIABILITY: 5 * _MINUTE_MS,
    Family.DERIVED: 14 * _DAY_MS,
    Family.WATCH: 14 * _DAY_MS,
    Family.CHAINS: 14 * _DAY_MS,
}
"""How fast each thing changes: weights seldom, load by the hour, outages by the minute."""
FADING = (
    Family.QUALITY,
    Family.USAGE,
    Family.LATENCY,
    Family.RELIABILITY,
    Family.DERIVED,
    Family.CHAINS,
)
"""The families of `Evidence`, in its order."""
BY_REGIME = (Family.QUALITY, Family.DERIVED, Family.WATCH)
"""The families of labels: they are kept apart by the regime that their endpoint was in."""


class Q(IntEnum):
    """Columns of QUALITY and WATCH. `LABELS` is a plain count; the others carry weights."""

    LABELS = 0
    N = 1
    R = 2
    R2 = 3


class U(IntEnum):
    """Columns of USAGE. `CALLS` and `FAILED` are plain counts; the others carry weights."""

    CALLS = 0
    FAILED = 1
    N = 2
    TOKENS_IN = 3
    TOKENS_OUT = 4
    N_LOG = 5
    LN_OUT = 6
    LN_OUT2 = 7
    COST_NANO = 8
    PRICED = 9


class L(IntEnum):
    """Columns of LATENCY: whole answers, time to first content, censored time-outs."""

    N = 0
    LN = 1
    LN2 = 2
    N_TTFT = 3
    LN_TTFT = 4
    LN_TTFT2 = 5
    N_CENSORED = 6
    LN_CENSORED = 7


class R(IntEnum):
    """Columns of RELIABILITY: answers, and failures by class."""

    OK = 0
    RATE_LIMIT = 1
    SERVER = 2
    TIMEOUT = 3
    CONNECT = 4
    CUT = 5
    REFUSED = 6
    BAD_REPLY = 7


class B(IntEnum):
    """Columns of BOOKS, plain sums over all time: routed calls, labelled ones, their rewards."""

    CALLS = 0
    LABELLED = 1
    REWARD = 2


class D(IntEnum):
    """Columns of DERIVED: decisions with a derived label alone, and pairs with a stronger one.

    `PAIRS` is a plain count; the others carry weights. d is the derived value, s the stronger.
    `SEEN` counts calls, with a label or without; rows of before it was counted hold none.
    """

    N = 0
    GOOD = 1  # Σ d
    PAIRS = 2
    PAIR_N = 3
    PAIR_D = 4
    PAIR_D2 = 5
    PAIR_S = 6
    PAIR_DS = 7
    PAIR_S2 = 8
    SEEN = 9  # answered calls that were read, most of which show nothing


class S(IntEnum):
    """Columns of SIGNALS, plain counts of decisions: kinds of labels, what derived ones say."""

    JUDGE = 0
    EDIT = 1
    HUMAN = 2
    TEST = 3
    ANSWER = 4  # empty, refused, filtered, truncated
    SCHEMA = 5
    TOOLS = 6  # calls that do not fit, or that the tool itself refused; loops
    REPEATED = 7  # asked again, as it was or edited
    RETRIED = 8  # attempts that failed and were followed by another: links of a chain
    SAID = 9  # the caller's own word that it asked again


GIVEN = (S.JUDGE, S.EDIT, S.HUMAN, S.TEST)
"""Quality labels; what others tell counts for quality as far as it is known to go with these."""


class T(IntEnum):
    """Columns of TEACHING, plain sums over all time: labelled decisions, and their rewards.

    `CALLS` counts calls, each once, with a label or without; rows of before it was counted hold
    none. Those of a profile are no traffic, and are counted apart.
    """

    LABELS = 0
    REWARD = 1
    CALLS = 2
    PROFILED = 3  # calls of a profile, however they ended
    PROFILED_FAILED = 4  # those of them that failed; rows of before it was counted hold none


class P(IntEnum):
    """Columns of ROLES, plain sums over all time: the parts that calls played for their callers."""

    CALLS = 0
    OK = 1
    FAILED = 2  # what counts against the endpoint
    COST_NANO = 3
    PRICED = 4
    N = 5  # answers whose time is known
    LN = 6
    LN2 = 7
    LABELS = 8
    REWARD = 9


class C(IntEnum):
    """Columns of CHAINS, weighted: calls by the endpoint that their first attempt went to, and what
    came after them. Of before they were counted rows hold none.

    `REPEATS` are calls that ask again what an earlier one asked: they begin no chain of their own.
    """

    CALLS = 0
    REPEATS = 1  # of those calls
    N_MORE = 2  # further attempts of these calls
    MORE_NANO = 3  # what they cost, as far as it is known
    MORE_MS = 4  # by how much they prolonged the calls
    N_AGAIN = 5  # repeats of calls that began here
    AGAIN_NANO = 6  # what those cost, all their attempts
    AGAIN_MS = 7


N_COLUMNS = 10
MOST = 1 << 48
"""What a record may add to a column, before weights: with the largest of those, 2^14, it is less
than `UNIT`. As nano-dollars $281,000, as tokens more than can be counted."""
HUGE = 1e15
"""Observations, decayed or counted: no cell has so many. A sum beyond what they can add up to was
damaged."""
LARGEST: dict[Family, dict[int, float]] = {
    Family.USAGE: {U.TOKENS_IN: 2.0**32, U.TOKENS_OUT: 2.0**32, U.COST_NANO: float(MOST)},
    Family.ROLES: {P.COST_NANO: float(MOST)},
    Family.CHAINS: {
        C.MORE_NANO: float(MOST),
        C.MORE_MS: 2.0**32,
        C.AGAIN_NANO: float(MOST),
        C.AGAIN_MS: 2.0**32,
    },
}
"""What an observation adds to a column at most, in the order of magnitude; 1 in those not named."""
MAY_BE_NEGATIVE: dict[Family, tuple[int, ...]] = {
    Family.USAGE: (U.LN_OUT,),
    Family.LATENCY: (L.LN, L.LN_TTFT, L.LN_CENSORED),
    Family.ROLES: (P.LN,),
    Family.CHAINS: (C.REPEATS, C.N_AGAIN, C.AGAIN_NANO, C.AGAIN_MS),
}
"""Columns that hold logarithms. Chains hold what is taken back where it had been said to a store
that lost it."""
UNWEIGHTED: dict[Family, tuple[int, ...]] = {
    Family.QUALITY: (Q.LABELS,),
    Family.USAGE: (U.CALLS, U.FAILED),
    Family.BOOKS: tuple(B),
    Family.DERIVED: (D.PAIRS,),
    Family.SIGNALS: tuple(S),
    Family.TEACHING: tuple(T),
    Family.WATCH: (Q.LABELS,),
    Family.ROLES: tuple(P),
}
SCALED: dict[Family, tuple[int, ...]] = {
    Family.QUALITY: (Q.R, Q.R2),
    Family.USAGE: (U.LN_OUT, U.LN_OUT2),
    Family.LATENCY: (L.LN, L.LN2, L.LN_TTFT, L.LN_TTFT2, L.LN_CENSORED),
    Family.RELIABILITY: (),
    Family.BOOKS: (B.REWARD,),
    Family.DERIVED: (D.GOOD, D.PAIR_D, D.PAIR_D2, D.PAIR_S, D.PAIR_DS, D.PAIR_S2),
    Family.SIGNALS: (),
    Family.TEACHING: (T.REWARD,),
    Family.WATCH: (Q.R, Q.R2),
    Family.ROLES: (P.LN, P.LN2, P.REWARD),
    Family.CHAINS: (),
}
"""Columns in fixed point; the rest are whole numbers (counts, tokens, nano-dollars)."""
