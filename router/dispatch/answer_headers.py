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
    context, plan = decision.context, decision.plan
    head, why, reason = (kind or kind_of(decision)).derive(_of_kind, decision)
    if answered is not None and answered is not plan.drawn:
        reason = _reason(in_the_end(why, decision, answered))
    out = request_ids(decision.nonce.hex().encode())
    out.append((b"x-router-decision-id", decision_id.encode()))
    out += head
    out += (
        (b"x-router-propensity", b"%.6g" % plan.propensity),
        (b"x-router-posterior-version", b"%d" % context.beliefs.version),
        reason,
    )
    if plan.relaxed:
        out.append((b"x-router-relaxed", ", ".join(plan.relaxed).encode()))
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
    endpoint, sent = attempt.endpoint, attempt.outgoing
    out = returned_headers(reply.headers, named=decision.context.route.by_name)
    out += decision_headers(decision, decision_id, endpoint, kind)
    out.append((b"x-router-endpoint", endpoint.id.encode()))
    out.append((b"x-router-attempts", b"%d" % attempt.number))
    if sent is not None and sent.is_translated:
        told = decision.context.translations.told_of(endpoint) or ""
        out.append((b"x-router-translated", told.encode()))
    if sent is not None and sent.left_out:
        out.append((b"x-router-left-out", ", ".join(sent.left_out).encode()))
    passed_ms = decide_s * 1e3, (attempt.ttft_s or attempt.latency_s) * 1e3
    out.append((b"server-timing", b"decide;dur=%.2f, upstream;dur=%.1f" % passed_ms))
    return out
