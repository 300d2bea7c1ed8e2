"""Everything that is done to a stack so that a secret might get out of it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from scripts.proofs import faulty_parts
from scripts.proofs.searched import Place, files_in
from scripts.proofs.secret_calls import LoadedCall, LoadedCaller
from scripts.proofs.secret_provider import BEHAVIOURS, BREAKS, GOOD, SILENT
from scripts.proofs.secret_stack import (
    AFTER,
    ALONE,
    BUFFERED,
    MAX_BODY_BYTES,
    ROUTED,
    SecretStack,
)
from scripts.proofs.secret_verbs import Verbs, broken

QUICK = (*GOOD, "echo-401", "echo-429", "echo-500", *BREAKS, SILENT)
"""Behaviours of a quick run; of refusals one of a kind."""
SETTLED_S = 2.5
"""Until folded, archived, looked at by the observer, and started again."""
AWAY_S = 1.0
VERB_S = 60.0
DOORS = ("/v1/feedback", "/v1/events", "/v1/router/decide", "/v1/chat/completions")
OWNER = (
    "/v1/router/posteriors",
    "/v1/router/endpoints",
    "/metrics",
    "/readyz?verbose",
    "/livez",
)
MODELS = "/v1/models"
EVENTS = {"content-type": "application/cloudevents+json"}


async def play(stack: SecretStack, *, quick: bool) -> list[Place]:
    """Do everything; return what the sidecar and the verbs said, and files as they were meanwhile.

    The store is away for a while, so that a journal is looked into that still holds something.
    """
    run = _Run(stack, quick=quick)
    await run.calls()
    await run.doors()
    await run.faults()
    await asyncio.sleep(SETTLED_S)
    await asyncio.to_thread(stack.store.stop)
    await run.while_away()
    await asyncio.sleep(AWAY_S)
    places = [(f"{name}, store away", data) for name, data in files_in(stack.seen)]
    await asyncio.to_thread(stack.store.start)
    await asyncio.sleep(SETTLED_S)
    await run.owner("at rest")
    run.verbs.decisions = run.routed
    places += await asyncio.to_thread(lambda: list(run.verbs.all(quick=quick)))
    return places + await run.broken_configuration() + run.said()


class _Run:
    def __init__(self, stack: SecretStack, *, quick: bool) -> None:
        self._stack = stack
        self._quick = quick
        self._canaries = stack.secrets.canaries
        self.verbs = Verbs(stack)
        self._callers = {
            app: LoadedCaller(self._canaries, stack.url, key)
            for app, key in stack.secrets.app_keys.items()
        }

    def said(self) -> list[Place]:
        """Return every answer of the sidecar's own."""
        return [(a.place, a.said) for caller in self._callers.values() for a in caller.answers]

    @property
    def routed(self) -> list[str]:
        """Ids of decisions that were drawn."""
        return self._callers[ROUTED].decisions

    # -- calls ------------------------------------------------------------------------------

    async def calls(self) -> None:
        """Call every endpoint in every way."""
        names = QUICK if self._quick else BEHAVIOURS
        await asyncio.gather(*(self._everywhere(app, names) for app in (ALONE, AFTER, BUFFERED)))
        routed = self._callers[ROUTED]
        rounds = range(4 if self._quick else 40)
        await routed.make([routed.chat(f"routed {n}", "auto", streamed=n % 2 == 1) for n in rounds])
        await self._odd_calls(self._callers[ALONE])

    async def _everywhere(self, app: str, names: Sequence[str]) -> None:
        caller = self._callers[app]
        streams = (True,) if app == BUFFERED else (False, True)
        ways = [(name, streamed) for name in names for streamed in streams]
        await caller.make(
            [caller.chat(f"{app} at {name}", name, streamed=streamed) for name, streamed in ways]
        )

    async def _odd_calls(self, caller: LoadedCaller) -> None:
        """Call as nobody should, and pass on what is not listed."""
        plant = self._canaries.plant
        chat = caller.chat(
            "wrong key", "by-env", streamed=False, **{"x-router-key": plant("a wrong key")}
        )
        unlisted = caller.chat("unlisted", plant("model that is not listed"), streamed=False)
        body = caller.body("unknown hint", "by-env", streamed=False)
        body["router"] = {plant("name of a hint that is not known"): plant("hint")}
        hinted = {
            "x-router-strategy": plant("strategy that is not known"),
            "x-router-data-class": plant("data class that is not known"),
        }
        odd = [
            chat,
            unlisted,
            caller.post("unknown hint", "/v1/chat/completions", body),
            *[
                caller.chat(name, "by-env", streamed=False, **{name: value})
                for name, value in hinted.items()
            ],
            caller.chat("task", "auto", streamed=False, **{
                "x-router-task": plant("task that is not known")
            }),
            caller.chat("foreign origin", "by-env", streamed=False, origin=(
                f"http://{plant('origin')}.example"
            )),
            caller.chat("foreign host", "by-env", streamed=False, host=plant("host")),
            caller.chat("coding", "by-env", streamed=False, **{
                "content-encoding": plant("content-encoding")
            }),
            caller.chat("not eligible", "by-env", streamed=False, **{
                "x-router-data-class": "restricted"
            }),
            caller.post("embeddings", "/v1/embeddings", {"model": "x", "input": plant("input")}),
            caller.post("responses", "/v1/responses", {
                "model": "x", "input": plant("input of a response"), "stream": True
            }),
            caller.get("passed on", f"/v1/files/{plant('path that is passed on')}"),
            caller.get("nowhere", f"/{plant('path that is nowhere')}"),
            caller.get("no such model", f"/v1/models/{plant('model asked for')}"),
            caller.get("no method", "/v1/feedback"),
        ]  # fmt: skip
        for path in DOORS:
            broken = f'{{"messages": ["{plant(f"broken JSON, {path}")}" x'.encode()
            large = b'"' + plant(f"body too large, {path}").encode() * (MAX_BODY_BYTES // 20) + b'"'
            bad = {"broken JSON": broken, "no object": plant(f"no object, {path}"), "large": large}
            kind = EVENTS if path == "/v1/events" else {}
            odd += [
                caller.post(f"{what} at {path}", path, body, **kind) for what, body in bad.items()
            ]
        await caller.make(odd)
        leaving = [
            caller.chat("left", name, streamed=streamed)
            for name in (SILENT, "by-env")
            for streamed in (False, True)
        ]
        await caller.make(leaving, leave_after_s=0.02)

    # -- the other doors --------------------------------------------------------------------

    async def doors(self) -> None:
        """Give feedback, tell events, ask for decisions: in ways that are taken, and refused."""
        caller, plant = self._callers[ALONE], self._canaries.plant
        path = "/v1/feedback"
        items: dict[str, dict[str, Any]] = {
            "ref": {"ref": plant("feedback: ref"), "passed": True},
            "response_id": {"response_id": plant("feedback: response_id"), "thumb": "up"},
            "unknown field": {"ref": "r", "passed": True, plant("feedback: name of a field"): 1},
            "value": {"ref": "r", "passed": plant("feedback: value")},
            "kind": {"ref": "r", "passed": True, "kind": plant("feedback: kind")},
            "match": {"ref": "r", "passed": True, "match": plant("feedback: match")},
            "revision": {"ref": "r", "passed": True, "revision": plant("feedback: revision")},
            "decision id": {"decision_id": plant("feedback: decision id"), "passed": True},
        }
        calls = [caller.post(f"feedback, {case}", path, item) for case, item in items.items()]
        if caller.decisions:
            known = {"decision_id": caller.decisions[0], "score": 0.5}
            calls.append(caller.post("feedback, taken", path, known))
        calls += self._event_calls(caller)
        decided = [
            caller.post(
                f"decide {model}",
                "/v1/router/decide",
                caller.body(f"decide {model}", model, streamed=False),
                **{"x-router-key": self._stack.secrets.admin_key},
            )
            for model in ("auto", "by-env", "nobody's")
        ]
        await caller.make(calls + decided)
        await self.owner("after calls")

    def _event_calls(self, caller: LoadedCaller) -> Iterator[LoadedCall]:
        plant = self._canaries.plant

        def event(case: str, **more: Any) -> dict[str, Any]:
            data = {
                "endpoint": "by-env",
                "response_id": plant(f"event: response_id, {case}"),
                "ref": plant(f"event: ref, {case}"),
            }
            return {
                "specversion": "1.0",
                "id": plant(f"event: id, {case}"),
                "source": plant(f"event: source, {case}"),
                "type": "pointsman.outcome.v1",
                "subject": plant(f"event: subject, {case}"),
                "vendor": plant(f"event: extension, {case}"),
                "data": data | more,
            }

        cases = {
            "taken": event("taken"),
            "endpoint": event("endpoint", endpoint=plant("event: endpoint")),
            "task": event("task", task=plant("event: task")),
            "field": event("field", **{plant("event: name of a field"): 1}),
            "value": event("value", latency_s=plant("event: value")),
        }
        for case, value in cases.items():
            yield caller.post(f"event, {case}", "/v1/events", value, **EVENTS)
        headers = {f"ce-{k}": v for k, v in event("in headers").items() if isinstance(v, str)}
        yield caller.post("event, in headers", "/v1/events", {"endpoint": "by-env"}, **headers)
        odd = {"content-type": plant("content-type")}
        yield caller.post("event, content-type", "/v1/events", cases["taken"], **odd)

    async def owner(self, when: str) -> None:
        """Look at all that the owner may see, with the right key and with a wrong one."""
        caller = self._callers[ALONE]
        models = [caller.get(f"{MODELS}, {when}", MODELS)]
        keys = {"": self._stack.secrets.admin_key, ", wrong key": self._canaries.plant("wrong key")}
        ids = [*self._callers[ROUTED].decisions[:3], *caller.decisions[:3]]
        ids.append(self._canaries.plant(f"decision id, {when}"))
        paths = [*OWNER, *(f"/v1/router/decisions/{each}" for each in ids)]
        await caller.make(
            models
            + [
                caller.get(f"{_shown(path)}, {when}{how}", path, **{"x-router-key": key})
                for path in paths
                for how, key in keys.items()
            ]
        )

    # -- what breaks ------------------------------------------------------------------------

    async def faults(self) -> None:
        """Break our own parts on words of a call."""
        caller = self._callers[ALONE]
        calls = [
            caller.chat(f"fault in a {fault}", "by-env", streamed=streamed, **{
                faulty_parts.HEADER.decode(): fault
            })
            for fault in faulty_parts.FAULTS
            for streamed in (False, True)
        ]  # fmt: skip
        body = caller.body("fault in the observer", "by-env", streamed=False)
        body["messages"].append({"role": "user", "content": faulty_parts.OBSERVER_WORD.decode()})
        calls.append(caller.post("fault in the observer", "/v1/chat/completions", body))
        await caller.make(calls)

    async def while_away(self) -> None:
        """Call while the store is away: the journal keeps what was to be sent."""
        for app in (ALONE, ROUTED):
            caller = self._callers[app]
            model = "auto" if app == ROUTED else "by-env"
            call = caller.chat(f"{app}, store away", model, streamed=False)
            said = {
                "ref": self._canaries.plant(f"feedback: ref, {app}, store away"),
                "passed": True,
            }
            told = caller.post(f"feedback, {app}, store away", "/v1/feedback", said)
            await caller.make([call, told])
        await self.owner("store away")

    async def broken_configuration(self) -> list[Place]:
        """Have the running sidecar look at a broken file, and say what it makes of it."""
        written = self._stack.config.read_text()
        self._stack.config.write_text(broken(self._canaries, written)["keys"])
        self._stack.processes.processes["up"].send_signal(signal.SIGHUP)
        await asyncio.sleep(SETTLED_S)
        await self.owner("broken configuration")
        told = await asyncio.to_thread(self.verbs.report, "report, broken configuration")
        self._stack.config.write_text(written)
        return [told]


def _shown(path: str) -> str:
    """Return a path as a case is called: a decision's id is not part of that."""
    return "a decision" if path.startswith("/v1/router/decisions/") else path
