"""What one call costs at each endpoint, and how well that is known, by tokens and prices."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bandit import cost
from bandit.families import U


@dataclass(frozen=True, eq=False)
class CallCosts:
    """Of single calls, each (n_categories, n_arms); worked out when first asked for."""

    usage: NDArray[np.float64]  # (n_categories, n_arms, N_COLUMNS) in the columns of USAGE
    input_usd_per_mtok: NDArray[np.float64]  # (n_arms,) NaN where no price is known
    output_usd_per_mtok: NDArray[np.float64]  # (n_arms,)
    machine_usd_per_s: NDArray[np.float64] | None  # (n_arms,) 0 where tokens are paid for

    @cached_property
    def _tokens(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Expected tokens in and out of a call, each (n_categories, n_arms)."""
        use = self.usage
        tokens_out = cost.expected_tokens(
            use[..., U.N], use[..., U.TOKENS_OUT], default=cost.TOKENS_DEFAULT[1]
        )
        # What a call sends in does not depend on who answers it: one mean serves the category.
        tokens_in = np.repeat(
            cost.expected_tokens(
                use[..., U.N].sum(axis=1, keepdims=True),
                use[..., U.TOKENS_IN].sum(axis=1, keepdims=True),
                default=cost.TOKENS_DEFAULT[0],
            ),
            use.shape[1],
            axis=1,
        )
        return tokens_in, tokens_out

    @property
    def tokens_out(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) expected tokens of an answer."""
        return self._tokens[1]

    @cached_property
    def usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) expected USD."""
        tokens_in, tokens_out = self._tokens
        return cost.expected_cost(
            tokens_in,
            tokens_out,
            input_usd_per_mtok=self.input_usd_per_mtok,
            output_usd_per_mtok=self.output_usd_per_mtok,
            machine_usd=self._machine_usd,
        )

    @property
    def _machine_usd(self) -> NDArray[np.float64] | float:
        """(n_categories, n_arms) USD a call of machines that are paid by the hour."""
        usd_per_s = self.machine_usd_per_s
        if usd_per_s is None or not usd_per_s.any():
            return 0.0
        spent_usd = self.usage[..., U.COST_NANO] / 1e9
        return cost.expected_machine_cost(self.usage[..., U.PRICED], spent_usd, usd_per_s=usd_per_s)

    @cached_property
    def ln_sd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) sd of ln(`usd`): of tokens and of shares of machines, as prices
        are known."""
        use, (tokens_in, tokens_out) = self.usage, self._tokens
        usd_in = np.nan_to_num(tokens_in * self.input_usd_per_mtok) / 1e6
        usd_out = np.nan_to_num(tokens_out * self.output_usd_per_mtok) / 1e6
        usd_machine = np.broadcast_to(self._machine_usd, usd_out.shape)
        usd = usd_in + usd_out + usd_machine
        share = np.divide(
            np.stack([usd_out, usd_machine]), usd, out=np.zeros((2, *usd.shape)), where=usd > 0
        )
        of_tokens = cost.relative_sd(use[..., U.N], use[..., U.LN_OUT], use[..., U.LN_OUT2])
        return np.hypot(share[0] * of_tokens, share[1] * cost.machine_sd(use[..., U.PRICED]))

    @cached_property
    def bound_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) USD that nine calls of ten stay below."""
        return self.usd * self._factor(cost.Z90)

    @cached_property
    def q95_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) USD that nineteen calls of twenty stay below."""
        return self.usd * self._factor(cost.Z95)

    @cached_property
    def q99_usd(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) USD that 99 calls of 100 stay below."""
        return self.usd * self._factor(cost.Z99)

    @cached_property
    def q95_tokens(self) -> NDArray[np.float64]:
        """(n_categories, n_arms) tokens in and out that nineteen calls of twenty stay below."""
        tokens_in, tokens_out = self._tokens
        return (tokens_in + tokens_out) * self._factor(cost.Z95)

    def _factor(self, z: float) -> NDArray[np.float64]:
        use = self.usage
        return cost.bound_factor(use[..., U.N_LOG], use[..., U.LN_OUT], use[..., U.LN_OUT2], z=z)
