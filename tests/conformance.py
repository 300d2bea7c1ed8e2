"""Golden decisions: read from `tests/golden/`, and made by the sidecar's own parts.

Nothing here knows a rule. A file says what is configured, believed and asked, and what must follow.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import yaml

from router.config.compiled import Configuration, compile_text
from router.config.keys import digest_of_secret
from router.config.rules import HARD
from router.decision.context import CallContext, Moment
from router.decision.rulings import ruled
from router.decision.said import NOTHING_SAID
from router.dialects.opaque import take_hints
from router.endpoints.breaker import RULES, Trouble
from router.errors import DispatchError, RequestRejected
from router.policy.hints import read_hints
from router.policy.telling import told
from scripts.proofs.believed import rows_of
from scripts.proofs.within import SentRequest, SidecarWithin
from telemetry.events import Result
from telemetry.kept_secrets import SECRET_BYTES, KeptSecrets, SecretsFile

GOLDEN = Path(__file__).parent / "golden"
AT = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
"""When every call comes whose file says nothing else: a Monday."""
PATH = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "hello"}]


@dataclass(frozen=True)
class GoldenDecision:
    """One decision of a file."""

    file: str
    number: int
    configuration: dict[str, Any]
    posteriors: dict[str, Any]
    given: dict[str, Any]

    @property
    def name(self) -> str:
        """What it is known by."""
        return f"{self.file}-{self.number}"

    @property
    def says(self) -> str:
        """The rule, in words."""
        return str(self.given["says"])

    @property
    def expect(self) -> dict[str, Any]:
        """What must follow."""
        return dict(self.given["expect"])


def golden_decisions() -> Iterator[GoldenDecision]:
    """Yield every decision of every file."""
    for path in sorted(GOLDEN.glob("*.yaml")):
        value = yaml.load(path.read_text(), Loader=yaml.CSafeLoader)
        for number, given in enumerate(value["decisions"], 1):
            yield GoldenDecision(
                path.stem,
                number,
                value["configuration"] | given.get("configuration", {}),
                given.get("posteriors", value.get("posteriors", {})),
                given,
            )


def decide(decision: GoldenDecision, state_dir: Path) -> dict[str, Any]:
    """Return what the sidecar decides, in the words of a file's `expect`."""
    return asyncio.run(_decide(decision, state_dir))


async def _decide(decision: GoldenDecision, state_dir: Path) -> dict[str, Any]:
    secret = bytes(SECRET_BYTES)
    SecretsFile(state_dir).open()
    SecretsFile(state_dir).change(lambda _: KeptSecrets(users=secret, draws=secret))
    given = decision.given
    at = given.get("at", AT)
    clock = Moment(at.timestamp(), 1_000_000.0)
    configuration = compile_text(text_of(decision.configuration, state_dir), file=decision.file)
    reached = Reached()
    with SidecarWithin(configuration, state_dir, reached, clock=lambda: clock) as within:
        within.follow(configuration, rows_of(decision.posteriors, configuration, at.timestamp()))
        _set_scene(within, given.get("scene", {}), clock)
        request = request_of(given["request"])
        found = await _settled(within, request)
        if given["request"].get("is_sent", True):
            answer = await within.send(request)
            found["reached"] = reached.ids(configuration)
            found["sent"] = json.loads(reached.bodies[0]) if reached.bodies else {}
            if answer.status != 200:
                error = json.loads(answer.body)["error"]
                found["error"] = {"status": answer.status, "code": error["code"] or error["type"]}
    return found


async def _settled(within: SidecarWithin, request: SentRequest) -> dict[str, Any]:
    configuration = within.sidecar.keeper.current.configuration
    try:
        settled = await within.settle(request)
    except RequestRejected:
        return {}
    if not isinstance(settled.found, CallContext):
        headers = {name.encode(): value.encode() for name, value in request.headers.items()}
        opaque = take_hints(request.body, request.path)
        hints = read_hints(headers, opaque.declared, configuration.classes)
        who, model = settled.caller, opaque.model
        ruling = ruled(configuration, who, hints, model, NOTHING_SAID, opaque.read, off=True)
        task = ruling.task.name
        return {"app": who.app.name, "task": task, "policy": _said(told(ruling.policy))}
    context, catalog = settled.found, configuration.catalog
    excluded = context.eligibility.exclusions(catalog)
    found: dict[str, Any] = {
        "eligible": [e.id for e in catalog.endpoints if e.id not in excluded],
        "excluded": excluded,
        "policy": _said(told(context.policy)),
    }
    try:
        shown = within.sidecar.routes._services.decider.preview(context)
    except DispatchError:
        return found
    for name in ("app", "task", "role", "strategy", "endpoint", "incumbent", "routed", "step"):
        found[name] = shown[name]
    for name in ("propensities", "propensity", "then", "fallback", "warning", "exploring", "note"):
        found[name] = shown[name]
    return found


class Reached(httpx.AsyncBaseTransport):
    """Every endpoint answers; who was reached is remembered by the base URL."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        self.urls.append(str(request.url))
        self.bodies.append(await request.aread())
        return httpx.Response(200, json=_answer_at(request.url.path))

    def ids(self, configuration: Configuration) -> list[str]:
        """Return who was reached: endpoints by id, a provider as `<name>/`."""
        catalog = configuration.catalog
        hosts = {t.url.host: e.id for e in catalog.endpoints for t in e.targets.values()}
        rest = {httpx.URL(one.base_url).host: f"{one.name}/" for one in catalog.claims}
        return [(hosts | rest)[httpx.URL(url).host] for url in self.urls]


def _answer_at(path: str) -> dict[str, Any]:
    said = {"role": "assistant", "content": "hello"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    if path.endswith("/messages"):
        content = [{"type": "text", "text": "hello"}]
        counts = {"input_tokens": 1, "output_tokens": 1}
        shape = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m"}
        return {**shape, "content": content, "stop_reason": "end_turn", "usage": counts}
    if path.endswith("/responses"):
        text = {"type": "output_text", "text": "hello", "annotations": []}
        item = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        output = [{**item, "content": [text]}]
        shape = {"id": "resp_1", "object": "response", "status": "completed", "model": "m"}
        counts = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        return {**shape, "output": output, "usage": counts}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    shape = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "m"}
    return {**shape, "choices": [choice], "usage": usage}


def text_of(configuration: Mapping[str, Any], state_dir: Path) -> str:
    """Return a configuration as it would be written.

    What a file may leave out: the URL of an endpoint or provider, and that a key is a digest. An
    endpoint's model is its own name unless it says another.
    """
    whole = json.loads(json.dumps(configuration, default=str))
    whole["server"] = {"state_dir": str(state_dir), **whole.get("server", {})}
    for endpoint in whole["endpoints"]:
        endpoint.setdefault("model", endpoint["id"])
        if not (whole.get("providers") or {}).get(endpoint.get("provider"), {}).get("base_url"):
            endpoint.setdefault("base_url", f"http://{endpoint['id']}.test/v1")
    for name, provider in (whole.get("providers") or {}).items():
        if provider.get("passthrough"):
            provider.setdefault("base_url", f"http://{name}.test/v1")
    for section in ("apps", "users"):
        for entry in (whole.get(section) or {}).values():
            if "keys" in entry:
                entry["keys"] = [_key(key) for key in entry["keys"]]
    return yaml.safe_dump(whole, sort_keys=False)


def _key(key: str | dict[str, Any]) -> str | dict[str, Any]:
    """Return a key, written in a file as it is sent, by its digest."""
    if isinstance(key, dict):
        return {**key, "key": _key(key["key"])}
    return f"sha256:{digest_of_secret(key.encode()).hex()}"


def request_of(given: Mapping[str, Any]) -> SentRequest:
    """Return a request; what it does not say is the usual."""
    path = given.get("path", PATH)
    body = {"model": given.get("model", "auto"), **given.get("body", {})}
    field = "input" if path.endswith("/responses") else "messages"
    body.setdefault(field, MESSAGES)
    if path.endswith("/messages"):
        body.setdefault("max_tokens", 100)
    headers = {name: str(value) for name, value in given.get("headers", {}).items()}
    if "key" in given:
        headers["authorization"] = f"Bearer {given['key']}"
    return SentRequest(path, headers, json.dumps(body).encode(), given.get("method", "POST"))


def _set_scene(within: SidecarWithin, scene: Mapping[str, Any], at: Moment) -> None:
    """Open breakers, and switch routing off."""
    sidecar = within.sidecar
    catalog = sidecar.keeper.current.configuration.catalog
    for name in scene.get("down", ()):
        digest = catalog.by_id[name].digest
        for _ in range(RULES[Trouble.FAILING].failures):
            sidecar.health.begin(digest, at.monotonic_s)
            sidecar.health.end(digest, Result.SERVER, at.monotonic_s)
    if scene.get("switched_off"):
        sidecar.keeper.switch = sidecar.keeper.switch._replace(off=True)


def _said(policy: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy as files have it: each value, and who said it, the nearest first."""
    return {
        field: {"is": one["value"], "by": list(dict.fromkeys(each["by"] for each in one["said"]))}
        for field, one in policy.items()
    }


def differences(expect: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Return in what a decision is not as it must be, a line each."""
    out = []
    for name, wanted in expect.items():
        got = found.get(name)
        if name == "policy":
            wanted = {"data_class": {"is": "internal", "by": ["built_in"]}, **wanted}
            kept = got.items() if isinstance(got, dict) else ()
            got = {field: one for field, one in kept if field in wanted or field in HARD}
        if name == "propensities":
            same = isinstance(got, dict) and got.keys() == wanted.keys()
            same = same and all(abs(got[one] - wanted[one]) < 1e-9 for one in wanted)
        elif name == "sent":
            got = {field: (got or {}).get(field) for field in wanted}
            same = got == wanted
        else:
            same = got == wanted
        if not same:
            out.append(f"{name} is {got}, and must be {wanted}")
    if "error" in found and "error" not in expect:
        out.append(f"refused: {found['error']}")
    return out
