"""Layouts of tokens and of records, as numpy reads many at once.

Who only writes them needs no numpy: they are packed by `telemetry.tokens` and `telemetry.events`.
"""

from __future__ import annotations

import numpy as np

from telemetry.tokens import TOKEN_FIELDS

TOKEN = np.dtype(TOKEN_FIELDS)

RECORD = np.dtype(
    [
        ("kind", "u1"),
        ("version", "u1"),
        ("result", "u1"),
        ("attempt", "u1"),
        ("status", "<u2"),
        ("data_class", "u1"),
        ("tier", "u1"),  # of service
        ("token", TOKEN),
        ("flags", "<u4"),
        ("tokens_in", "<u4"),
        ("tokens_out", "<u4"),
        ("tokens_cached", "<u4"),  # of those in
        ("tokens_reasoning", "<u4"),  # of those out
        ("tokens_cache_write", "<u4"),  # of those in
        ("latency_us", "<u4"),
        ("ttft_us", "<u4"),
        ("cost_nano", "<u8"),  # by the price that `price_source` names
        ("reported_cost_nano", "<u8"),  # by the provider's own word
        ("received_at_ms", "<i8"),  # of feedback; on the store's clock, like `decided_at_ms`
        ("response", "V16"),
        ("reference", "V16"),
        (
            "chain",
            "V16",
        ),  # nonce of the first of several attempts at one task; OUTCOME: `traces`
        ("event", "V16"),
        ("first_endpoint", "<u8"),  # digest of who the decision's first attempt went to; 0: unsaid
        ("repeat_endpoint", "<u8"),  # of REPEAT, the same of who asked again; of OUTCOME: `traces`
        ("added_ms", "<u4"),  # by which this prolonged its chain of attempts, or of calls
        ("price", "<u4"),  # digest of the price entry that `cost_nano` is by; 0: of none
        ("role", "<u8"),
        ("tag", "<u8"),  # what the first prompt of a call of `general` looks like
        ("episode", "<u8"),  # digest of the declared session; 0: none
        ("prompt", "<u8"),  # digest of the version that the caller names; 0: none
        ("spend_tag", "<u8"),  # digest of the app's declared tag, as the caller named it; 0: none
        ("served_model", "<u8"),  # digest of the name that the answer carries
        ("fingerprint", "<u8"),  # of the system that served
        ("configuration", "<u8"),
        ("value_micro", "<i8"),
        ("revision", "<u4"),
        ("feedback_kind", "u1"),
        ("match", "u1"),
        ("source", "u1"),
        ("rules", "u1"),
        ("price_source", "u1"),
        ("system_prompt", "<u4"),  # digest of what of it stays from call to call
        ("price_day", "<u2"),  # the dated price entry: its first day since the epoch; 0: undated
        ("reserved", "V1"),
        ("checksum", "<u4"),
        ("padding", "<u4"),
    ]
)
"""Whoever packs one has the same places: see `_OUTCOME` and `_FEEDBACK` of `telemetry.events`."""
