"""Everything that can go wrong in the sidecar, and the HTTP status of each.

RouterError
├── ConfigError                 the configuration; carries every problem
├── RequestRejected             the caller's fault: 4xx, with the field at fault
└── DispatchError               the call was sound and no answer came
    ├── NoCandidates            no endpoint may serve it; carries a reason for each
    ├── Overloaded              those that may serve it have all they take
    ├── AuditUnavailable        what is about to leave cannot be recorded, and so does not leave
    ├── BudgetSpent             a budget that holds for it is used up; carries which, and until when
    ├── BudgetAway              what a budget has left is not known while the store is away
    ├── RateShareSpent          its app has had its share of a provider's limit in this minute
    ├── StoreAway               who made what it goes on from is not known while the store is away
    ├── SidecarFull             the sidecar itself has all that it takes
    ├── Misconfigured           the last that might serve it turns our key or model down
    └── AllEndpointsFailed      every attempt failed; carries them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from telemetry.numbers import brief, clipped


class RouterError(Exception):
    """Root of this package's errors."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with the configuration, and what to do about it."""

    line: int  # from 1; 0 where the whole file is meant
    field: str
    value: str
    hint: str

    def shown(self, file: str) -> str:
        """Return the problem as one line; a variable that its hint begins with is said once."""
        is_said = self.hint.startswith(f"environment variable {self.value} ")
        value = "" if is_said else f"{self.value}: "
        return f"{file}:{self.line}: {self.field}: {value}{self.hint}"


class ConfigError(RouterError):
    """The configuration cannot be used."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = list(problems)
        super().__init__("\n".join(p.shown(file) for p in self.problems))


STATUS = {
    "invalid_json": 400,
    "invalid_request": 400,
    "unknown_field": 400,
    "unknown_strategy": 400,
    "unknown_role": 400,
    "unknown_task": 400,
    "bad_decision_id": 400,
    "bad_feedback": 400,
    "bad_event": 400,
    "invalid_api_key": 401,
    "admin_key_required": 401,
    "budget_spent": 402,
    "forbidden_host": 403,
    "forbidden_origin": 403,
    "shared_state": 403,
    "tool_not_allowed": 403,
    "not_found": 404,
    "previous_response_not_found": 404,
    "thread_not_found": 404,
    "model_not_found": 404,
    "decision_not_found": 404,
    "decision_not_kept": 404,
    "method_not_allowed": 405,
    "ambiguous_reference": 409,
    "too_many_decisions": 409,
    "no_eligible_endpoint": 409,
    "keeps_content": 409,
    "too_old": 410,
    "body_too_large": 413,
    "unsupported_media_type": 415,
    "rate_share_spent": 429,
    "internal_error": 500,
    "upgrade_not_supported": 501,
    "endpoint_misconfigured": 502,
    "stream_cut": 502,
    "all_endpoints_failed": 503,
    "overloaded": 503,
    "store_away": 503,
    "budget_away": 503,
    "audit_unavailable": 503,
    "telemetry_full": 503,
    "draining": 503,
    "deadline_exceeded": 504,
}
"""The one table of HTTP statuses."""


class RequestRejected(RouterError):
    """The caller's fault; `param` names the field."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        # Of a field that is not known it is what the caller made up.
        self.param = None if param is None else clipped(param)
        self.details = details or {}
        super().__init__(message)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]


class DispatchError(RouterError):
    """The call was sound and no answer came."""

    code = "all_endpoints_failed"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return STATUS[self.code]


KEEPS_CONTENT = "keeps_content"
"""What some endpoint would serve, if the call did not have content kept or forwarded there."""


class NoCandidates(DispatchError):
    """No endpoint may serve the call."""

    code = "no_eligible_endpoint"

    def __init__(self, reasons: Mapping[str, str]) -> None:
        self.reasons = dict(reasons)
        if any(reason.startswith(KEEPS_CONTENT) for reason in self.reasons.values()):
            self.code = KEEPS_CONTENT
        shown = ", ".join(f"{endpoint}: {reason}" for endpoint, reason in self.reasons.items())
        super().__init__(f"no endpoint may serve this call ({shown})")


class Overloaded(DispatchError):
    """Those that may serve the call have as many under way as they take."""

    code = "overloaded"

    def __init__(self, endpoints: Sequence[str]) -> None:
        names = ", ".join(endpoints)
        super().__init__(f"{names}: as many calls are under way as limits.max_in_flight allows")


class AuditUnavailable(DispatchError):
    """What is about to leave cannot be recorded, and so does not leave."""

    code = "audit_unavailable"

    def __init__(self, data_class: str) -> None:
        super().__init__(
            f"data of class {data_class} leaves only once that is on record, and the journal takes "
            "no record now: its disk or its room is full; see the sidecar's log"
        )


class StoreAway(DispatchError):
    """The store does not say which endpoint made what the call goes on from, or asks for."""

    code = "store_away"

    def __init__(self, id_: str) -> None:
        super().__init__(
            f"the store is away, and which endpoint made {brief(id_)} is not known without it; "
            "try again soon"
        )


class BudgetSpent(DispatchError):
    """A budget that holds for the call is used up, or has less left than it may come to."""

    code = "budget_spent"

    def __init__(self, told: Mapping[str, Any], message: str) -> None:
        """Make it.

        Args:
            told: as `router/budgets/standings.py` tells of a claim, with `may_come_to`.
        """
        self.told = dict(told)
        super().__init__(message)


class BudgetAway(DispatchError):
    """What a budget has left is not known here, and the store does not say."""

    code = "budget_away"

    def __init__(self, budget: str, *, is_hard: bool) -> None:
        self.told = {"budget": budget}
        named = f"hard budget {budget}" if is_hard else f"budget {budget}"
        super().__init__(
            f"what {named} has left is not known while the store is away; try again soon"
        )


class RateShareSpent(DispatchError):
    """The app of the call has had its share of a provider's limit, wherever the call may go."""

    code = "rate_share_spent"

    def __init__(self, told: Mapping[str, Any], *, after_s: float) -> None:
        """Make it.

        Args:
            told: `app`, `limit_of`, `unit`, `per`, `limit`, `share` and `resets_at` (RFC 3339).
            after_s: after how long it may be tried again.
        """
        self.told, self.after_s = dict(told), after_s
        super().__init__(
            f"app {told['app']} has had its share of what {told['limit_of']} takes a minute: "
            f"{told['share']} of {told['limit']} {told['unit']}; try again after a pause"
        )


class SidecarFull(DispatchError):
    """As many calls are under way as the sidecar takes, and none may wait."""

    code = "overloaded"

    def __init__(self, most: int) -> None:
        super().__init__(f"{most} calls are under way, all that this sidecar takes; try again soon")


class Misconfigured(DispatchError):
    """An endpoint turns our key or our model name down, and no other may serve the call."""

    code = "endpoint_misconfigured"

    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"endpoint {endpoint} turns down the key or the model that it is configured with; "
            "see the sidecar's log"
        )


class AllEndpointsFailed(DispatchError):
    """Every attempt failed, and none came back with a status that could be passed on."""

    def __init__(self, attempts: Sequence[tuple[str, str]], *, timed_out: bool = False) -> None:
        self.attempts = list(attempts)
        self.code = "deadline_exceeded" if timed_out else "all_endpoints_failed"
        shown = ", ".join(f"{endpoint}: {failure}" for endpoint, failure in self.attempts)
        super().__init__(f"no endpoint answered ({shown})")
