"""`pointsman feedback`: what an answer, or a whole session, was worth."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import httpx

from router.commands.console import BAD_INPUT, FAILED, fail, print_json
from router.commands.inputs import NO_POINTSMAN, reaching, sidecar

TIMEOUT_S = 10.0
NOT_SAID = ("key", "url", "config", "json_")
"""Options that say how to tell it."""
NOT_HEARD = "the store does not hear it yet; the sidecar keeps it, and passes it on once it does"


def feedback(
    given: Mapping[str, object],
    *,
    url: str | None,
    key: str,
    config: Path | None,
    as_json: bool,
) -> None:
    """Tell the sidecar.

    Args:
        given: the options of the verb; those that are None were not given.
    """
    url, headers = sidecar(url, key, config)
    said = {name: value for name, value in given.items() if name not in NOT_SAID}
    body = {name: value for name, value in said.items() if value is not None}
    try:
        raw = json.dumps(body, allow_nan=False).encode()
    except ValueError:
        fail("--score and --edit-ratio are numbers from 0 to 1", BAD_INPUT)
    trouble = ""
    with reaching(url), httpx.Client(trust_env=False, timeout=TIMEOUT_S) as client:
        answer = client.post(f"{url}/v1/feedback", content=raw, headers=headers)
        if answer.is_success:
            trouble = _trouble_of_store(client, url)
    try:
        found = answer.json()
        told = found["results"][0]["status"] if answer.is_success else found["error"]["message"]
    except (ValueError, KeyError, TypeError, IndexError):
        fail(NO_POINTSMAN.format(url, answer.status_code), FAILED)
    if as_json:
        print_json(found)
    elif trouble:
        print(told)
    elif answer.is_success:
        hint = ": no such answer is known yet; it is joined if it appears within a day"
        print(told + (hint if told == "held" else ""))
    if not answer.is_success:
        fail(told, BAD_INPUT if answer.status_code < 500 else FAILED)
    if trouble:
        fail(f"{NOT_HEARD}: {trouble}", FAILED)


def _trouble_of_store(client: httpx.Client, url: str) -> str:
    """Return why the sidecar's store hears nothing now; "" where it does, or that is not said."""
    try:
        state = client.get(f"{url}/readyz?verbose").json()
        store = state["store"] if state["degraded"] else None
        return f"{store['reason']} ({store['said']}): {store['fix']}" if store else ""
    except (httpx.TransportError, ValueError, KeyError, TypeError):
        return ""
