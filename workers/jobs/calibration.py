"""Do predictions hold? What decisions foretold, beside the labels that came. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry.events import Kind
from workers.folding import labels
from workers.folding.labels import Labels

SPAN_SD = 1.645
"""Of a normal distribution 90 % lie within."""
LEAST_LABELS = 10
"""Below, the spread of a cell's labels is not known well enough to judge by."""


@dataclass(slots=True)
class Held:
    """How often the 90 % intervals of one endpoint held its labels' means."""

    endpoint: str  # digest of its identity
    cells: int = 0
    inside: int = 0
    labels: int = 0

    def as_json(self) -> dict[str, object]:
        """Return it as one object."""
        share = self.inside / self.cells if self.cells else None
        return {**asdict(self), "share_inside": share}


def calibrate(records: NDArray[np.void]) -> list[Held]:
    """Return for each endpoint how its predictions did.

    A cell is one (category, endpoint). Its labels' mean should lie within what was predicted for
    it, widened by the uncertainty of the mean itself. Calls without a prediction are left out.
    """
    said: dict[bytes, Labels] = {}
    tokens: dict[bytes, np.void] = {}
    for record in records[records["kind"] == Kind.FEEDBACK]:
        token = record["token"]
        if token["predicted_sd"] > 0:
            nonce = token["nonce"].tobytes()
            tokens[nonce] = token
            heard = labels.said_in(record)
            said[nonce] = labels.hear(said.get(nonce, {}), int(record["feedback_kind"]), heard)
    cells: dict[tuple[int, int], list[tuple[float, float, float]]] = {}
    for nonce, token in tokens.items():
        reward = labels.standing(said[nonce]).reward
        if reward is not None:
            row = (reward, float(token["predicted"]), float(token["predicted_sd"]))
            cells.setdefault((int(token["executed"]), int(token["category"])), []).append(row)
    out: dict[int, Held] = {}
    for (endpoint, _), rows in sorted(cells.items()):
        held = out.setdefault(endpoint, Held(f"{endpoint:016x}"))
        held.labels += len(rows)
        if len(rows) >= LEAST_LABELS:
            held.cells += 1
            held.inside += _is_inside(np.array(rows))
    return list(out.values())


def _is_inside(rows: NDArray[np.float64]) -> bool:
    """Return whether (n, 3) rewards, predicted means and sds agree in the mean."""
    reward, predicted, sd = rows.T
    spread = np.sqrt(np.mean(sd**2) + reward.var(ddof=1) / len(rows))
    return bool(abs(reward.mean() - predicted.mean()) <= SPAN_SD * spread)
