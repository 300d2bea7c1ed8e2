"""Counters of the sidecar, kept as plain numbers and exposed on demand.

Labels are bounded by configuration: endpoints, tasks, strategies. Never users or sessions.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from telemetry.journal import Dropped
from telemetry.pacer import cpu_seconds_by_loop
from telemetry.stack_parts import cpu_seconds_by_part

SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Buckets of the OpenTelemetry GenAI convention for operation durations."""
DECIDE_SECONDS = (0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01)


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulative counts by upper bound."""
        out, running = [], 0
        for bound, n in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += n
            out.append((bound, float(running)))
        return out


@dataclass(slots=True)
class Metrics:
    """Everything that is counted on the call's path."""

    attempts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """By endpoint, task and result."""
    cost_usd: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """By endpoint."""
    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By strategy and the step of the law that chose."""
    relaxed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Draws for which a soft limit gave way, by strategy and limit."""
    diverted: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By the endpoint that was drawn, and who serves while its breaker is open."""
    draws_ended: Counter[str] = field(default_factory=Counter)
    """Stored draws that ended, by what: `gain` of sessions, `dominated` of slots."""
    feedback: Counter[str] = field(default_factory=Counter)
    """By what became of it."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Records that go no further, by reason."""
    budgets_warned: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Warnings said here, by budget and percent that is spent."""
    budgets_refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Calls turned away for a budget, by budget and code."""
    shares_spent: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Attempts that were not made, as an app had its share: by app and whose limit."""
    ingested: Counter[str] = field(default_factory=Counter)
    """Events accepted, and requests refused by code."""
    upstream_s: dict[str, Histogram] = field(default_factory=dict)
    second_starts: Counter[str] = field(default_factory=Counter)
    """By the endpoint that was started beside a slow one."""
    served_other: Counter[str] = field(default_factory=Counter)
    """Answers that name another model than was asked for, by endpoint."""
    ttft_s: dict[str, Histogram] = field(default_factory=dict)
    decide_s: Histogram = field(default_factory=lambda: Histogram(DECIDE_SECONDS))

    def observe(self, by: dict[str, Histogram], endpoint: str, seconds: float) -> None:
        """Count a duration of one endpoint."""
        found = by.get(endpoint)
        if found is None:
            found = by[endpoint] = Histogram(SECONDS)
        found.observe(seconds)


class EndpointGauge(NamedTuple):
    """A gauge with a value for each endpoint, or other thing, and each kind of something there."""

    name: str
    what: str
    kind: str | None  # the second label, if there is one
    values: Mapping[tuple[str, ...], float]
    of: str = "endpoint"  # what the first label names


Gauges = Callable[[], dict[str, tuple[str, float]]]
"""Name -> (what it is, value), asked for at every exposition."""


_NAME = re.compile(rb"^(\w[\w:]*)(\{)?", re.M)


def labelled(text: bytes, process: str) -> bytes:
    """Return an exposition in which each sample says of which process it is."""
    label = b'process="%s"' % process.encode()

    def with_label(found: re.Match[bytes]) -> bytes:
        return found[1] + (b"{" + label + (b"," if found[2] else b"}"))

    return _NAME.sub(with_label, text)


class Exposition(Collector):
    """The metrics in Prometheus's form."""

    def __init__(
        self,
        metrics: Metrics,
        gauges: Gauges,
        endpoint_gauges: Callable[[], Iterable[EndpointGauge]] = tuple,
    ) -> None:
        self._metrics = metrics
        self._gauges = gauges
        self._endpoint_gauges = endpoint_gauges
        self.process = ""  # which of several that share the port; names all of its samples
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the exposition."""
        text = generate_latest(self._registry)
        return labelled(text, self.process) if self.process else text

    def collect(
        self,
    ) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Yield one family after the other."""
        m = self._metrics
        yield _counter(
            "router_attempts", "Upstream calls.", ["endpoint", "task", "result"], m.attempts
        )
        cost = CounterMetricFamily("router_cost_usd", "Cost at list price.", labels=["endpoint"])
        for endpoint, usd in m.cost_usd.items():
            cost.add_metric([endpoint], usd)
        yield cost
        yield _counter("router_decisions", "Decisions.", ["strategy", "step"], m.decisions)
        what = "Draws for which a soft limit gave way."
        yield _counter("router_limits_relaxed", what, ["strategy", "limit"], m.relaxed)
        starts = {(k,): n for k, n in m.second_starts.items()}
        what = "Attempts that were started beside a slow one."
        yield _counter("router_second_starts", what, ["endpoint"], starts)
        others = {(k,): n for k, n in m.served_other.items()}
        what = "Answers that name another model than was asked for."
        yield _counter("router_served_other_model", what, ["endpoint"], others)
        yield _counter(
            "router_diverted", "Calls kept from what they drew.", ["endpoint", "by"], m.diverted
        )
        ended = {(k,): n for k, n in m.draws_ended.items()}
        yield _counter("router_draws_ended", "Stored draws that ended.", ["kind"], ended)
        what = "Warnings that so many percent of a budget are spent."
        yield _counter("router_budget_warnings", what, ["budget", "percent"], m.budgets_warned)
        what = "Calls turned away for a budget."
        yield _counter("router_budget_refused", what, ["budget", "code"], m.budgets_refused)
        what = "Attempts that were not made, as the app had had its share of a limit."
        yield _counter("router_shares_spent", what, ["app", "limit_of"], m.shares_spent)
        said = {(k,): n for k, n in m.feedback.items()}
        yield _counter("router_feedback", "Feedback received.", ["result"], said)
        dropped = {(why,): m.dropped[why] for why in Dropped}
        yield _counter("router_events_dropped", "Records dropped.", ["reason"], dropped)
        told = {(k,): n for k, n in m.ingested.items()}
        yield _counter("router_events_ingested", "Events of others.", ["result"], told)
        yield _histogram("gen_ai_client_operation_duration_seconds", "Answers.", m.upstream_s)
        yield _histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds", "First content.", m.ttft_s
        )
        decide = HistogramMetricFamily("router_decide_seconds", "From body to plan.")
        decide.add_metric([], m.decide_s.buckets(), m.decide_s.total)
        yield decide
        loops = CounterMetricFamily("router_loop_cpu_seconds", "CPU by loop.", labels=["loop"])
        for loop, seconds in cpu_seconds_by_loop().items():
            loops.add_metric([loop], seconds)
        yield loops
        parts = CounterMetricFamily("router_part_cpu_seconds", "CPU by part.", labels=["part"])
        for part, seconds in cpu_seconds_by_part().items():
            parts.add_metric([part], seconds)
        yield parts
        for name, (what, value) in self._gauges().items():
            yield GaugeMetricFamily(name, what, value=value)
        for gauge in self._endpoint_gauges():
            yield _gauge(gauge)


def _gauge(gauge: EndpointGauge) -> GaugeMetricFamily:
    labels = [gauge.of] + ([gauge.kind] if gauge.kind else [])
    family = GaugeMetricFamily(gauge.name, gauge.what, labels=labels)
    for values, value in gauge.values.items():
        family.add_metric(list(values), value)
    return family


def _counter(
    name: str, what: str, labels: list[str], counts: Mapping[Any, int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, what, labels=labels)
    for values, n in counts.items():
        family.add_metric(list(values), n)
    return family


def _histogram(name: str, what: str, by: dict[str, Histogram]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, what, labels=["endpoint"])
    for endpoint, histogram in by.items():
        family.add_metric([endpoint], histogram.buckets(), histogram.total)
    return family
