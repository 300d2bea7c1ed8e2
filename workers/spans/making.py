"""From outcomes to spans, by OpenTelemetry's conventions for generative AI.

One span an attempt, below the caller's own; no text of any prompt or answer, no user. A span's id
follows from decision and attempt, so one that is told twice is the same. Times are the outcome's:
the first attempt began as the decision fell, a later one ended as much later as it prolonged the
call, so that of attempts side by side it is right to what their answers waited for each other.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from telemetry import __version__
from telemetry.events import NO_DIGEST, Flag, Kind, Result
from telemetry.traces import Operation
from workers.spans.names import StoredNames

MS_NS, US_NS = 1_000_000, 1_000
N_ENDS = 10_000
"""Decisions of which it is remembered when their latest attempt ended."""
NO_FAULTS = frozenset((Result.OK, Result.OVERTAKEN, Result.CLIENT_GONE))
"""Ends that are nobody's error."""
SCOPE = InstrumentationScope("pointsman", __version__)
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
Attributes = dict[str, str | int | float | bool]


@dataclass(slots=True)
class SpanMaker:
    """Makes spans of outcomes that belong to a trace; not for several threads."""

    names: StoredNames
    resource: Resource
    _ends_ns: OrderedDict[bytes, int] = field(default_factory=OrderedDict)

    def spans(self, records: NDArray[np.void]) -> Iterator[ReadableSpan]:
        """Yield a span for each outcome in `records` whose caller named a sampled trace.

        Args:
            records: (n_records,) of RECORD, in the order in which they were written.

        Raises:
            redis.RedisError: the store is away, and a name is not known yet.
        """
        outcomes = records[records["kind"] == Kind.OUTCOME]
        # A `V16` of zeros compares by its bytes.
        is_traced = outcomes["chain"] != np.void(NO_DIGEST)
        for record in outcomes[is_traced]:
            yield self._span(record)

    def _span(self, record: np.void) -> ReadableSpan:
        nonce = record["token"]["nonce"].tobytes()
        trace_id = int.from_bytes(record["chain"].tobytes(), "big")
        caller = int(record["repeat_endpoint"]).to_bytes(8, "little")
        own = blake2b(nonce + bytes([record["attempt"]]), digest_size=8).digest()
        end_ns = self._end_ns(nonce, record)
        result, attributes = Result(record["result"]), self._attributes(record)
        model = attributes.get("gen_ai.request.model", "")
        return ReadableSpan(
            name=f"{attributes['gen_ai.operation.name']} {model}".rstrip(),
            context=_context(trace_id, int.from_bytes(own, "big"), is_remote=False),
            parent=_context(trace_id, int.from_bytes(caller, "big"), is_remote=True),
            resource=self.resource,
            attributes=attributes,
            kind=SpanKind.CLIENT,
            status=Status(StatusCode.UNSET if result in NO_FAULTS else StatusCode.ERROR),
            start_time=end_ns - int(record["latency_us"]) * US_NS,
            end_time=end_ns,
            instrumentation_scope=SCOPE,
        )

    def _end_ns(self, nonce: bytes, record: np.void) -> int:
        """Return when an attempt ended, in nanoseconds since the epoch."""
        decided_ns = int(record["token"]["decided_at_ms"]) * MS_NS
        latency_ns = int(record["latency_us"]) * US_NS
        before = self._ends_ns.pop(nonce, None)
        if before is None or record["attempt"] <= 1:
            end_ns = decided_ns + latency_ns
        else:
            end_ns = before + int(record["added_ms"]) * MS_NS
        self._ends_ns[nonce] = end_ns
        while len(self._ends_ns) > N_ENDS:
            self._ends_ns.popitem(last=False)
        return end_ns

    def _attributes(self, record: np.void) -> Attributes:
        names, token, flags = self.names, record["token"], int(record["flags"])
        endpoint = int(token["executed"])
        asked = names.model_of(endpoint)
        result = Result(record["result"])
        found: dict[str, str | int | float | bool | None] = {
            "gen_ai.operation.name": Operation(record["match"]).name.lower(),
            "gen_ai.provider.name": names.provider_of(endpoint),
            "gen_ai.request.model": asked,
            "gen_ai.request.stream": bool(flags & Flag.STREAMED),
            "gen_ai.response.model": names.answer_model(int(record["served_model"]), asked),
            "http.response.status_code": int(record["status"]) or None,
            "pointsman.endpoint": names.name(endpoint),
            "pointsman.app": names.name(int(token["app"])),
            "pointsman.task": names.name(int(token["category"])),
            "pointsman.attempt": int(record["attempt"]),
            "pointsman.result": result.name.lower(),
        }
        if result not in NO_FAULTS:
            status = int(record["status"])
            found["error.type"] = str(status) if status >= 400 else result.name.lower()
        if flags & Flag.USAGE_KNOWN:
            found["gen_ai.usage.input_tokens"] = int(record["tokens_in"])
            found["gen_ai.usage.output_tokens"] = int(record["tokens_out"])
            found["gen_ai.usage.cache_read.input_tokens"] = int(record["tokens_cached"])
            found["gen_ai.usage.cache_creation.input_tokens"] = int(record["tokens_cache_write"])
            found["gen_ai.usage.reasoning.output_tokens"] = int(record["tokens_reasoning"])
        if flags & Flag.TTFT_KNOWN:
            found["gen_ai.response.time_to_first_chunk"] = int(record["ttft_us"]) / 1e6
        if flags & Flag.PRICED:
            found["pointsman.cost_usd"] = int(record["cost_nano"]) / 1e9
        return {name: value for name, value in found.items() if value is not None}


def _context(trace_id: int, span_id: int, *, is_remote: bool) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=is_remote, trace_flags=SAMPLED)
