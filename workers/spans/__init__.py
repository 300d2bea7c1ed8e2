"""Spans of calls for OpenTelemetry, made from their outcomes.

- `names`: what an outcome's digests stand for
- `making`: from outcomes to spans
- `telling`: from the streams to whoever collects spans
- `__main__`: the process; it needs the extra `otel`
"""
