"""An explanation in words: the sentence that says why, and the lines below it. Pure, no I/O.

All is read off the explanation itself, so a person and a program are told the same. A verb that
only prints what a sidecar told needs nothing of what decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

LEAST_SHOWN = 0.0005
"""Of quality: what is less is shown as none."""
TASK_FOUND_BY = {
    "hint": "as the call says",
    "role": "by its role",
    "key": "by its key",
    "app": "the app's default",
    "session": "as its session has it",
    "rule": "by a rule",
    "exemplars": "by what its system prompt and tools look like",
    "classifier": "by what the first prompt of its session looks like",
    "general": "nothing said which",
}
_OTHER_SIDE = "the other side than the incumbent's, beside a hold-out or in a trial of the app"
SIDE = {
    "holdout": "the incumbent's side, as a hold-out",
    "trial_incumbent": "the incumbent's side of a trial",
    "trial_challenger": "the challenger's side of a trial",
    "beside_floor": _OTHER_SIDE,
    "beside_stay": _OTHER_SIDE,
    "beside_sample": _OTHER_SIDE,
}
"""By step of the law."""
HOST_BY = {
    "cheapest": "the least cost for each answered call",
    "fastest": "the least latency for each answered call",
    "value": "cost, latency and answered share at their prices",
    "cost_then_latency": "the least latency among those within 1 % of the least cost",
}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what is said of a decision, but for the numbers of its candidates."""
    yield found["sentence"]
    how = TASK_FOUND_BY.get(found["task_found_by"] or "", "")
    yield (
        f"{found['id']}, {time_of(found['decided_at_ms'])}: {found['drawn']}, for task "
        f"{found['task']}{f' ({how})' if how else ''} of app {found['app']} under "
        f"{found['strategy']}, posteriors {found['posterior_version']}"
    )
    yield from _drawing(found)
    yield from _ruled(found.get("policy"))
    yield from _serving(found)
    yield from _otherwise(found["counterfactual"])
    if found["note"]:
        yield f"note: {found['note']}"


def _drawing(found: dict[str, Any]) -> Iterator[str]:
    if not found["routed"] or found["step"] is None:
        yield "nothing was drawn: the call was not routed"
    elif found["follows"]:
        at = time_of(found["follows"]["decided_at_ms"])
        yield f"it follows the draw of {at}, as a session or slot does"
        if found["draw_of"] is None:
            yield "the numbers of that draw are not kept here"
    if found["step"] is not None:
        yield f"step of the law: {found['step']}, probability {found['propensity']:.6g}"
    if side := SIDE.get(found["step"] or ""):
        yield f"by chance alone it is on {side}"
    yield from _ended(found.get("ended"))
    if host := found["host"]:
        line = f"its host, of {', '.join(host['hosts'])}: {HOST_BY.get(host['by'], host['by'])}"
        yield line + ("; or to learn about it" if host["may_be_learning"] else "")


def _ended(ended: dict[str, Any] | None) -> Iterator[str]:
    """Yield why the draw ended that the session or slot had before."""
    if ended is None:
        return
    odds = f"{ended['better']} is better with probability {ended['p_better']:.3f}"
    if ended["kind"] == "dominated":
        since = f"by labels since that draw alone {ended['p_better_since']:.3f}"
        yield f"the draw of {ended['from']} ended: {odds}, {since}"
        return
    assumed = ", which is assumed" if ended["value_assumed"] else ""
    yield (
        f"the draw of {ended['from']} ended: {odds}, {ended['gain_usd_per_call']:.3g} USD a call "
        f"over {ended['remaining']:.3g} calls to come, against {ended['cache_usd']:.3g} USD of "
        f"prompt cache; a success is worth {ended['value_usd']:.3g} USD{assumed}"
    )


def _serving(found: dict[str, Any]) -> Iterator[str]:
    if found["stands_in_for"]:
        yield f"it stands in for {found['stands_in_for']}, whose breaker was open"
    if found["translated"]:
        yield f"translated from {found['translated']}"
    if found["left_out"]:
        yield f"left out: {', '.join(found['left_out'])}"
    if found["then"]:
        yield f"if it fails: {', then '.join(found['then'])}"
    if found["answered_by"] not in (None, found["drawn"]):
        was_asked = found["drawn"] not in (found["exclusions"] or {})
        why = "it failed" if was_asked else "it may not serve this call"
        yield f"{why}, and {found['answered_by']} answered"


def _ruled(policy: dict[str, Any] | None) -> Iterator[str]:
    """Yield the rules that held, each with who said it, the nearest to the call first."""
    said = [f"{name} {_value(field)}" for name, field in (policy or {}).items()]
    if said:
        yield f"rules: {'; '.join(said)}"


def _value(field: dict[str, Any]) -> str:
    value = field["value"]
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{shown} ({', '.join(dict.fromkeys(part['by'] for part in field['said']))})"


def _otherwise(other: dict[str, Any] | None) -> Iterator[str]:
    """Yield what another strategy would have done."""
    if other is None:
        return
    said = [f"under {name} it would be {who}" for name, who in other["under"].items()]
    if trade := other["trade"]:
        said.append(f"at half the trade ({trade['value_usd'] / 2:g} USD a success) {trade['half']}")
        said.append(f"at double {trade['double']}")
    yield "; ".join(said)
    needs = [_need(row) for row in other["needs"]]
    if needs:
        yield "; ".join(needs)


def _need(row: dict[str, Any]) -> str:
    (what, by), *_ = [(key, value) for key, value in row.items() if key != "endpoint"]
    name = row["endpoint"]
    if by is None:
        return f"{name} cannot by quality alone"
    if what == "quality":
        if by >= LEAST_SHOWN:
            return f"{name} needs {by:+.3f} quality"
        return f"{name} is ahead by {-by:.3f}" if by <= -LEAST_SHOWN else f"{name} is as good"
    if by >= 0:
        return f"{name} is no worse"
    unit = "USD a call" if what == "cost_usd" else "s"
    return f"{name} needs {by:+.3g} {unit}"


def limit_lines(draw: dict[str, Any]) -> Iterator[str]:
    """Yield what is said of limits and of money; draws kept by earlier versions tell neither."""
    if outside := draw.get("outside_limits"):
        yield f"outside the soft limits: {', '.join(outside)}"
    if relaxed := draw.get("relaxed"):
        yield f"nobody kept the limit on {', '.join(relaxed)}, so it gave way"
    if value := draw.get("value_usd"):
        yield f"a success was worth {value:.3g} USD"
    if price := draw.get("price_of_money"):
        yield f"budgets made money dearer by {price:.3g} successes a USD"


def time_of(at_ms: int) -> str:
    """Return a moment as it is shown."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
