"""Calls as OpenTelemetry's spans: of whose trace they are, what they say, and who waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import LEARN, SHARDS, Provider, Reply, Sidecar, answer, endpoint, serving
from conftest import until as wait_until
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from router.commands.up import spans_command
from telemetry import keys
from telemetry.embedded import PrivateServer
from telemetry.store import Address, connect
from telemetry.traces import NOT_TRACED, Operation, parse_traceparent, provider_key
from workers.spans.making import SpanMaker
from workers.spans.names import StoredNames
from workers.spans.telling import GIVE_UP_S, Teller

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{CALLER}-01"
SECRET_TEXT = "a sentence that no span may hold"


# -- the header ---------------------------------------------------------------------------------


def test_a_sampled_header_names_trace_and_span() -> None:
    found = parse_traceparent(PARENT.encode(), Operation.EMBEDDINGS)

    assert found == (bytes.fromhex(TRACE), bytes.fromhex(CALLER), Operation.EMBEDDINGS)


def test_what_a_later_version_adds_is_passed_over() -> None:
    found = parse_traceparent(f"01-{TRACE}-{CALLER}-03-more".encode(), Operation.CHAT)

    assert found.trace_id.hex() == TRACE


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{CALLER}-00",  # its caller does not sample it
        f"00-{TRACE}-{CALLER}-01-more",
        f"ff-{TRACE}-{CALLER}-01",
        f"00-{'0' * 32}-{CALLER}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{CALLER}-01",
        "00-1",
        "",
    ],
)
def test_what_is_not_sampled_or_no_trace_is_not_told_of(header: str) -> None:
    assert parse_traceparent(header.encode(), Operation.CHAT) == NOT_TRACED


# -- from a call to a span ----------------------------------------------------------------------


def configuration(provider: Provider, *, spans: bool = True) -> dict[str, Any]:
    """Two endpoints of which the second stands in for the first."""
    return {
        "otel": {"spans": spans},
        "endpoints": [endpoint(provider, "a"), endpoint(provider, "b")],
        "strategies": LEARN,
        "apps": {"default": {"mode": "observe", "incumbent": "a"}},
    }


@contextmanager
def telling(address: Address, exporter: SpanExporter, **more: Any) -> Iterator[Teller]:
    with closing(connect(address)) as client:
        maker = SpanMaker(StoredNames(client), Resource({"service.name": "pointsman"}))
        yield Teller(client, SHARDS, exporter, maker, **more)


def streamed_records(sidecar: Sidecar, address: Address, n: int) -> None:
    """Wait until so many records have left the router, with the names of who served."""
    with closing(connect(address)) as client:
        shards = [keys.stream(shard) for shard in range(SHARDS)]
        sidecar.until(lambda: sum(client.xlen(name) for name in shards) >= n)
        key = f"{provider_key(sidecar.digest('a')):016x}"
        sidecar.until(lambda: client.hexists(keys.NAMES, key))


def spans_of(address: Address) -> list[ReadableSpan]:
    """All spans of a store, in the order in which they ended."""
    exporter = InMemorySpanExporter()
    with telling(address, exporter) as teller:
        while teller.round(block_ms=0):
            pass
    return sorted(exporter.get_finished_spans(), key=lambda span: span.end_time or 0)


def test_a_call_is_a_span_below_its_callers(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    began_ns = time.time_ns()
    with serving(configuration(provider), state_dir, address) as sidecar:
        sidecar.http.headers["traceparent"] = PARENT
        assert sidecar.chat(text=SECRET_TEXT).status_code == 200
        streamed_records(sidecar, address, 1)
    assert provider.calls[-1].headers["traceparent"] == PARENT

    (span,) = spans_of(address)
    assert span.name == "chat a"
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.parent is not None
    assert f"{span.parent.span_id:016x}" == CALLER
    assert span.parent.is_remote
    found = dict(span.attributes or {})
    assert found["gen_ai.operation.name"] == "chat"
    assert found["gen_ai.request.model"] == "a"
    assert found["gen_ai.response.model"] == "a"
    assert found["gen_ai.usage.input_tokens"] == 10
    assert found["gen_ai.usage.output_tokens"] == 5
    assert found["pointsman.app"] == "default"
    assert found["pointsman.task"] == "general"
    assert found["pointsman.endpoint"] == "a"
    assert found["http.response.status_code"] == 200
    assert "error.type" not in found
    assert span.status.status_code is StatusCode.UNSET
    assert span.start_time is not None
    assert span.end_time is not None
    assert began_ns - 10**9 < span.start_time <= span.end_time < time.time_ns() + 10**9
    assert SECRET_TEXT not in span.to_json()


@pytest.mark.slow
def test_the_model_that_answered_is_told_by_its_own_name(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(body=answer(model="a-2026-11-05")))
    with serving(configuration(provider), state_dir, address) as sidecar:
        sidecar.http.headers["traceparent"] = PARENT
        assert sidecar.chat().status_code == 200
        streamed_records(sidecar, address, 1)
        with closing(connect(address)) as client:
            sidecar.until(lambda: client.hlen(keys.SERVED) > 0)

    (span,) = spans_of(address)
    assert (span.attributes or {})["gen_ai.request.model"] == "a"
    assert (span.attributes or {})["gen_ai.response.model"] == "a-2026-11-05"


def test_an_attempt_that_failed_is_a_span_of_its_own_before_the_next(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("a", Reply(504, b"{}"))
    with serving(configuration(provider), state_dir, address) as sidecar:
        sidecar.http.headers["traceparent"] = PARENT
        assert sidecar.chat().status_code == 200
        streamed_records(sidecar, address, 1)

    *failed, served = spans_of(address)
    assert failed
    for span in failed:
        assert (span.attributes or {})["error.type"] == "504"
        assert span.status.status_code is StatusCode.ERROR
        assert span.end_time <= served.end_time  # type: ignore[operator]
    assert (served.attributes or {})["pointsman.endpoint"] == "b"
    assert len({span.context.span_id for span in [*failed, served]}) == len(failed) + 1


def test_embeddings_are_told_as_such(provider: Provider, state_dir: Path, address: Address) -> None:
    vectors = (
        b'{"object":"list","model":"a","data":[],"usage":{"prompt_tokens":3,"total_tokens":3}}'
    )
    provider.on("a", Reply(200, vectors))
    value = configuration(provider)
    value["endpoints"] = [endpoint(provider, "a", dialects=["embeddings"])]
    with serving(value, state_dir, address) as sidecar:
        body = {"model": "a", "input": "x"}
        sidecar.http.post("/v1/embeddings", json=body, headers={"traceparent": PARENT})
        streamed_records(sidecar, address, 1)

    (span,) = spans_of(address)
    assert span.name == "embeddings a"


@pytest.mark.parametrize(
    ("spans", "header"), [(False, PARENT), (True, None), (True, PARENT[:-1] + "0")]
)
def test_nothing_is_carried_where_nobody_asks_for_spans(
    provider: Provider, state_dir: Path, address: Address, spans: bool, header: str | None
) -> None:
    with serving(configuration(provider, spans=spans), state_dir, address) as sidecar:
        if header is not None:
            sidecar.http.headers["traceparent"] = header
        assert sidecar.chat().status_code == 200
        with closing(connect(address)) as client:
            shards = [keys.stream(shard) for shard in range(SHARDS)]
            sidecar.until(lambda: any(client.xlen(name) for name in shards))
            held = [entry for name in shards for entry in client.xrange(name)]

    assert bytes.fromhex(TRACE) not in b"".join(fields[b"f"] for _, fields in held)
    assert spans_of(address) == []


# -- to the collector ---------------------------------------------------------------------------


class _Refusing(SpanExporter):
    """A collector that takes nothing."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.asked += [span.context.span_id for span in spans]
        return SpanExportResult.FAILURE


@pytest.fixture
def traced(provider: Provider, state_dir: Path, address: Address) -> Address:
    """A store with one call of a trace."""
    with serving(configuration(provider), state_dir, address) as sidecar:
        sidecar.http.headers["traceparent"] = PARENT
        assert sidecar.chat(text=SECRET_TEXT).status_code == 200
        streamed_records(sidecar, address, 1)
    return address


def test_what_a_collector_refuses_is_told_again_as_the_same_span(traced: Address) -> None:
    refusing, taking = _Refusing(), InMemorySpanExporter()
    with telling(traced, refusing) as teller:
        assert not teller.round(block_ms=0)
        assert not teller.round(block_ms=0)

        teller.exporter = taking
        assert teller.round(block_ms=0)
        assert not teller.round(block_ms=0), "it is told once it was taken"

    (span,) = taking.get_finished_spans()
    assert refusing.asked == [span.context.span_id] * 2


def test_what_is_refused_for_minutes_holds_nothing_up(traced: Address) -> None:
    now = [0.0]
    refusing = _Refusing()
    with telling(traced, refusing, clock=lambda: now[0]) as teller:
        assert not teller.round(block_ms=0)
        now[0] = GIVE_UP_S
        assert teller.round(block_ms=0)
        teller.round(block_ms=0)

    assert len(refusing.asked) == 2


def test_of_several_workers_one_tells(traced: Address) -> None:
    first, second = InMemorySpanExporter(), InMemorySpanExporter()
    with telling(traced, first) as one, telling(traced, second) as other:
        assert one.round(block_ms=0)
        assert not other.round(block_ms=0)

    assert (len(first.get_finished_spans()), len(second.get_finished_spans())) == (1, 0)


class _Collector(BaseHTTPRequestHandler):
    """Takes spans over OTLP/HTTP."""

    taken: list[ExportTraceServiceRequest]
    paths: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.paths.append(self.path)
        self.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_a_collector_gets_spans_from_the_process(
    provider: Provider, state_dir: Path, store: PrivateServer, traced: Address
) -> None:
    handler = type("Handler", (_Collector,), {"taken": [], "paths": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as collector:
        thread = threading.Thread(target=collector.serve_forever)
        thread.start()
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_SERVICE_NAME": "routing",
            "POINTSMAN_STORE_URL": traced.url,
        }
        worker = [sys.executable, "-m", "workers", "--state-dir", str(state_dir)]
        worker += ["--shards", str(SHARDS), "--prefix", "pm", "--young-hours", "24"]
        worker += ["--store-url-env", "POINTSMAN_STORE_URL"]
        process = subprocess.Popen(spans_command(worker), env=environment)
        try:
            wait_until(lambda: handler.taken, within_s=30)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
            collector.shutdown()
            thread.join()

    assert code == 0
    assert handler.paths == ["/v1/traces"]
    (resource,) = handler.taken[0].resource_spans
    assert {a.key: a.value.string_value for a in resource.resource.attributes}[
        "service.name"
    ] == "routing"
    (span,) = resource.scope_spans[0].spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, CALLER)
    assert span.name == "chat a"
    assert SECRET_TEXT.encode() not in handler.taken[0].SerializeToString()
