"""What the headers of an answer say of its decision."""

from __future__ import annotations

from router.decision.decide import Decision
from router.decision.kinds import DecisionKind, kind_of
from router.decision.reasons import Reason, in_the_end, why_drawn
from router.dispatch.attempt import Reply
from router.dispatch.headers import request_ids, returned_headers
from router.endpoints.catalog import Endpoint
from router.net.exchange import Header


def decision_headers(
    decision: Decision,
    decision_id: str,
    answered: Endpoint | None = None,
    kind: DecisionKind | None = None,
) -> list[Header]:
    """Return what can be said before it is known who will answer.

    Args:
        answered: who did, where it is known.
        kind: of the decision, where that is known.
    """
    context = decision.context
    head, why, reason = (kind or kind_of(decision)).derive(_of_kind, decision)
    if answered is not None and answered is not decision.plan.drawn:
        reason = _reason(in_the_end(why, decision, answered))
    out = [
        *request_ids(decision.nonce.hex().encode()),
        (b"x-router-decision-id", decision_id.encode()),
        *head,
        (b"x-router-propensity", f"{decision.plan.propensity:.6g}".encode()),
        (b"x-router-posterior-version", str(context.beliefs.version).encode()),
        reason,
    ]
    if decision.plan.relaxed:
        out.append((b"x-router-relaxed", ", ".join(decision.plan.relaxed).encode()))
    if warnings := context.warnings:
        out.append((b"x-router-warning", "; ".join(warnings).encode("ascii", "replace")))
    return out


def _of_kind(decision: Decision) -> tuple[tuple[Header, ...], Reason, Header]:
    """Return the headers that all decisions of a kind share, and why its endpoint was drawn."""
    context, why = decision.context, why_drawn(decision)
    head = (
        (b"x-router-task", context.task.name.encode()),
        (b"x-router-task-found-by", context.task.found_by.encode()),
        (b"x-router-strategy", context.strategy.name.encode()),
    )
    return head, why, _reason(why)


def _reason(why: Reason) -> Header:
    return b"x-router-reason", why.encode()


def answer_headers(
    decision: Decision,
    decision_id: str,
    reply: Reply,
    kind: DecisionKind | None = None,
    *,
    decide_s: float,
) -> list[Header]:
    """Return the headers of an answer: what of the provider's goes back, and ours."""
    attempt = reply.attempt
    upstream_s = attempt.ttft_s or attempt.latency_s
    sent = attempt.outgoing
    translated: list[Header] = []
    if sent is not None and sent.is_translated:
        told = decision.context.translations.told_of(attempt.endpoint) or ""
        translated.append((b"x-router-translated", told.encode()))
    if sent is not None and sent.left_out:
        translated.append((b"x-router-left-out", ", ".join(sent.left_out).encode()))
    timing = f"decide;dur={decide_s * 1e3:.2f}, upstream;dur={upstream_s * 1e3:.1f}"
    return [
        *returned_headers(reply.headers, named=decision.context.route.by_name),
        *decision_headers(decision, decision_id, attempt.endpoint, kind),
        (b"x-router-endpoint", attempt.endpoint.id.encode()),
        (b"x-router-attempts", str(attempt.number).encode()),
        *translated,
        (b"server-timing", timing.encode()),
    ]
