"""One call to our own sidecar, and what its answer means for the run."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from router.config.entries import GENERAL
from router.endpoints.catalog import Endpoint
from router.endpoints.key_pieces import MOST_READ, cleaned, holds_piece, without_key
from router.profiling.plan import Foretold
from telemetry.wire.usage import Usage, usage_of

PATH = "/v1/chat/completions"
LONGEST_REST_S = 60.0
FIRST_REST_S = 1.0
TIMED_OUT = frozenset({408})
WAITS = frozenset({429, 503, 529})
NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""Codes of a 429 that no waiting ends: the account has nothing left."""
KEY_FAULTS = frozenset({401, 402, 403, 404})
NOBODY_ANSWERED = frozenset({"all_endpoints_failed", "deadline_exceeded"})
MOST_SAID = 300
"""Characters of a refusal; it is cut after the key is masked, so that none is cut within it."""
OURS_TO_DROP = frozenset({"no_eligible_endpoint", "keeps_content"})


class Came(StrEnum):
    """What came of a call."""

    ANSWER = "answer"
    FAILURE = "failure"  # of the endpoint, at this prompt: an answer of quality 0
    LATER = "later"  # it has no room now
    FAULT = "fault"  # no prompt can succeed there
    TURNED_DOWN = "turned_down"  # this call, for how it is said or for what: a status of 400 to 499
    REFUSED = "refused"  # by our own rules: nothing was sent


class Got(Struct, frozen=True):
    """An answer, or why there is none."""

    came: Came
    seconds: float
    text: str = ""
    message: dict[str, Any] = {}
    usage: Usage | None = None
    decision: str = ""
    rest_s: float = 0.0  # of LATER: how long to wait
    said: str = ""  # of what is no answer
    status: int = 200
    code: str = ""
    param: str = ""  # the field that a refusal names
    is_passed_on: bool = False  # the endpoint's own words, and not our sidecar's


async def ask(
    client: httpx.AsyncClient,
    endpoint: Endpoint,
    body: dict[str, Any],
    *,
    task: str | None = None,
    data_class: str | None = None,
    reference: str = "",
    may_fault: bool = False,
) -> Got:
    """Send a call to an endpoint; return what came of it.

    Args:
        may_fault: nothing came of any call to it yet, so that a connection which cannot be made,
            or a server that fails, is no prompt's fault.
    """
    headers = _headers(task, data_class) | {"x-router-explore": "0"}
    if reference:
        headers["x-router-ref"] = reference
    began = time.monotonic()
    content = msgspec.json.encode({**body, "model": endpoint.id, "stream": False})
    reply = await client.post(PATH, content=content, headers=headers)
    seconds = time.monotonic() - began
    decision = reply.headers.get("x-router-decision-id", "")
    value = _json(reply)
    if reply.status_code == 200 and reply.headers.get("x-router-endpoint") == endpoint.id:
        found = _message(value)
        if found is not None:
            return Got(
                Came.ANSWER,
                seconds,
                text=_text(found),
                message=found,
                usage=usage_of(value.get("usage"), value.get("service_tier")),
                decision=decision,
            )
    code, said, param = _error(value, reply)
    said = cleaned(without_key(said, endpoint.auth_header))[:MOST_SAID]
    code = "" if holds_piece(code[:MOST_SAID], endpoint.auth_header) else code
    came = _came(reply.status_code, code, may_fault=may_fault)
    rest_s = _rest_s(reply) if came is Came.LATER else 0.0
    return Got(
        came,
        seconds,
        decision=decision,
        rest_s=rest_s,
        said=said,
        status=reply.status_code,
        code=code,
        param=param,
        is_passed_on=reply.headers.get("x-router-endpoint") == endpoint.id,
    )


async def foretell(
    client: httpx.AsyncClient,
    body: dict[str, Any],
    *,
    task: str | None,
    data_class: str | None,
    endpoints: Sequence[str],
) -> Foretold | str:
    """Return the task of a prompt, and who may not have it and why; nobody is called.

    Where the sidecar does not take the prompt at all: its words.
    """
    headers = _headers(task, data_class) | {"x-router-dry-run": "1"}
    del headers["x-router-profile"]  # that names an endpoint, and this asks for any
    content = msgspec.json.encode({**body, "model": "auto"})
    reply = await client.post(PATH, content=content, headers=headers)
    value = _json(reply)
    if reply.status_code == 200:
        return Foretold(value["task"], dict(value["exclusions"]), value["incumbent"])
    code, said, _ = _error(value, reply)
    if code not in OURS_TO_DROP:
        return f"{said} ({code})" if code else said[:MOST_SAID]
    return Foretold(task or GENERAL, {name: _reason_of(name, said) for name in endpoints})


def _reason_of(endpoint: str, said: str) -> str:
    """Return why an endpoint may not serve a call that nobody may serve, as the refusal says."""
    found = re.search(rf"[(,] ?{re.escape(endpoint)}: ([^,)]+)", said)
    return found[1] if found else "no endpoint may serve it"


def _headers(task: str | None, data_class: str | None) -> dict[str, str]:
    named = {"x-router-task": task, "x-router-data-class": data_class}
    said = {name: value for name, value in named.items() if value is not None}
    return {"x-router-profile": "1", "content-type": "application/json", **said}


def _came(status: int, code: str, *, may_fault: bool) -> Came:
    if code in OURS_TO_DROP:
        return Came.REFUSED
    if code == "endpoint_misconfigured" or status in KEY_FAULTS or code in NO_CREDIT:
        return Came.FAULT
    if code in NOBODY_ANSWERED:
        return Came.FAULT if may_fault else Came.FAILURE
    if status in WAITS:
        return Came.LATER
    if 400 <= status < 500 and status not in TIMED_OUT:
        return Came.TURNED_DOWN
    return Came.FAULT if may_fault else Came.FAILURE


def _rest_s(reply: httpx.Response) -> float:
    try:
        asked = float(reply.headers.get("retry-after", ""))
    except ValueError:
        asked = FIRST_REST_S
    return min(max(asked, 0.05), LONGEST_REST_S)


def _json(reply: httpx.Response) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(reply.content)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _message(value: dict[str, Any]) -> dict[str, Any] | None:
    choices = value.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    return message if isinstance(message, dict) else None


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(p["text"] for p in parts if isinstance(p, dict) and type(p.get("text")) is str)


def _error(value: dict[str, Any], reply: httpx.Response) -> tuple[str, str, str]:
    """Return code, words and field of a refusal, as far as it has them."""
    error = value.get("error")
    if not isinstance(error, dict):
        error = {"message": error} if isinstance(error, str) else _detail(value)
    code, said, param = (error.get(name) for name in ("code", "message", "param"))
    shown = said if isinstance(said, str) and said else f"status {reply.status_code}"
    return (
        code if isinstance(code, str) else "",
        " ".join(shown[:MOST_READ].split()),
        param if isinstance(param, str) else "",
    )


def _detail(value: dict[str, Any]) -> dict[str, Any]:
    """Return a refusal as servers of FastAPI say it: `detail`, with each field's place."""
    detail = value.get("detail")
    if isinstance(detail, str):
        return {"message": detail}
    first = detail[0] if isinstance(detail, list) and detail else None
    if not isinstance(first, dict):
        return {}
    loc = first.get("loc")
    parts = loc if isinstance(loc, list) else []
    place = [part for part in parts if isinstance(part, str) and part != "body"]
    return {"code": first.get("type"), "message": first.get("msg"), "param": ".".join(place)}
