"""A provider that has secrets of its own to say, and that repeats what it was told.

The first part of a call's path names how it behaves. Every answer carries a header by which it is
known: what the provider says to the client is between the two of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.proofs.canaries import Canaries
from scripts.proofs.provider import Cut, ProviderRequest, Send, Step, Wait
from scripts.proofs.replies import DONE, LAST_FRAME, event, frame, head, piece, usage, whole

MARK = ("x-said-by", "the provider")
"""Travels back to the client, so that its answers are told from the sidecar's own."""
ECHOED = (400, 401, 403, 404, 422, 429, 500, 503)
ECHOES = tuple(f"echo-{status}" for status in ECHOED)
BREAKS = ("bare", "listed", "told", "cut", "half", "status", "header", "chunk", "elsewhere", "odd")
SILENT = "silent"
GOOD = ("by-env", "by-file", "by-user", "by-client")
BEHAVIOURS = (*GOOD, *ECHOES, *BREAKS, SILENT)
SILENT_S = 3.0


@dataclass(slots=True)
class SecretProvider:
    """Plays each behaviour; what it says anew is planted as it is said."""

    canaries: Canaries
    seen: list[str] = field(default_factory=list)  # behaviours that were asked for

    def __call__(self, request: ProviderRequest) -> Sequence[Step]:
        """Return what this attempt gets."""
        name = request.path.split("/")[1]
        self.seen.append(name)
        if name.startswith("echo-"):
            return [self._echo(name, int(name.removeprefix("echo-")), request)]
        if name in BREAKS or name == SILENT:
            play: Callable[[ProviderRequest], Sequence[Step]] = getattr(self, f"_{name}")
            return play(request)
        if request.streamed:
            return [Send(self._stream_head() + self._stream(name, request) + LAST_FRAME)]
        return [whole(200, self._answer(name, request), [MARK, self._own_header(name)])]

    def _plant(self, what: str, behaviour: str) -> str:
        return self.canaries.plant(f"{what} of the provider, {behaviour}")

    def _own_header(self, behaviour: str) -> tuple[str, str]:
        return "x-provider-said", self._plant("header", behaviour)

    def _message(self, behaviour: str) -> dict[str, Any]:
        arguments = json.dumps({"path": self._plant("tool arguments", behaviour)})
        called = {"name": "edit_file", "arguments": arguments}
        return {
            "role": "assistant",
            "content": self._plant("text", behaviour),
            "reasoning_content": self._plant("reasoning", behaviour),
            "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": called}],
        }

    def _answer(self, behaviour: str, request: ProviderRequest) -> dict[str, Any]:
        message = self._message(behaviour)
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        return {
            "id": self._plant("answer id", behaviour),
            "object": "chat.completion",
            "model": request.model,
            "choices": [choice],
            "system_fingerprint": self._plant("fingerprint", behaviour),
            "usage": usage(11, 7),
        }

    def _stream(self, behaviour: str, request: ProviderRequest) -> bytes:
        """Return all events of a stream, in one frame each."""
        answer_id = self._plant("answer id", behaviour)
        parts = [
            piece(request.model, self._message(behaviour)),
            piece(request.model, {}, "tool_calls"),
            piece(request.model, {}) | {"choices": [], "usage": usage(11, 7)},
        ]
        events = [event(part | {"id": answer_id}) for part in parts]
        return b"".join(frame(each) for each in (*events, DONE))

    def _stream_head(self) -> bytes:
        kind = ("content-type", "text/event-stream")
        return head(200, [kind, ("transfer-encoding", "chunked"), MARK])

    # -- refusals and faults ----------------------------------------------------------------

    def _told_back(self, request: ProviderRequest) -> str:
        """Return all that was told, as a careless provider repeats it: keys, and every word."""
        return json.dumps({"headers": request.headers, "body": request.body, "at": request.path})

    def _echo(self, behaviour: str, status: int, request: ProviderRequest) -> Send:
        told, own = self._told_back(request), self._plant("error", behaviour)
        key = request.headers.get("authorization", "")
        code = {"message": f"{own} {told}", "type": own, "param": own, "code": key or own}
        return whole(status, {"error": code}, [MARK, ("retry-after", own)])

    def _bare(self, request: ProviderRequest) -> Sequence[Step]:
        body = (self._plant("error", "bare") + self._told_back(request)).encode()
        return [Send(head(500, [MARK, ("content-length", str(len(body)))]) + body)]

    def _listed(self, request: ProviderRequest) -> Sequence[Step]:
        own = self._plant("error", "listed")
        detail = [{"loc": ["body", own], "msg": self._told_back(request), "type": own}]
        return [whole(422, {"detail": detail, "type": own}, [MARK])]

    def _told(self, request: ProviderRequest) -> Sequence[Step]:
        """An error inside a stream, or under status 200."""
        own = self._plant("error", "told")
        said = {"error": {"message": own + self._told_back(request), "type": own, "code": own}}
        if request.streamed:
            return [Send(self._stream_head() + frame(event(said)) + LAST_FRAME)]
        return [whole(200, said, [MARK])]

    def _cut(self, request: ProviderRequest) -> Sequence[Step]:
        if not request.streamed:
            body = json.dumps(self._answer("cut", request)).encode()
            return [Send(head(200, [MARK, ("content-length", "99999")]) + body), Cut.CLOSE]
        return [
            Send(self._stream_head() + self._stream("cut", request)[:700]),
            Wait(0.05),
            Cut.RESET,
        ]

    def _half(self, request: ProviderRequest) -> Sequence[Step]:
        """What is no JSON, in the middle of an answer."""
        said = f'data: {{"choices": [{{"delta": {{"content": "{self._plant("text", "half")}\n\n'
        if request.streamed:
            return [Send(self._stream_head() + frame(said.encode()) + LAST_FRAME)]
        body = said.encode()
        return [Send(head(200, [MARK, ("content-length", str(len(body)))]) + body)]

    def _status(self, request: ProviderRequest) -> Sequence[Step]:
        return [Send(f"HTTP/1.1 2x0 {self._plant('status line', 'status')}\r\n\r\n".encode())]

    def _header(self, request: ProviderRequest) -> Sequence[Step]:
        own = self._plant("header", "header")
        return [Send(f"HTTP/1.1 200 OK\r\nx-{own}\x00: {own}\r\n\r\n".encode()), Cut.CLOSE]

    def _chunk(self, request: ProviderRequest) -> Sequence[Step]:
        own = self._plant("size of a chunk", "chunk")
        return [Send(self._stream_head() + f"zz{own}\r\n".encode()), Cut.CLOSE]

    def _elsewhere(self, request: ProviderRequest) -> Sequence[Step]:
        to = f"http://{self._plant('host', 'elsewhere')}.invalid/?key={self._plant('query', 'it')}"
        return [Send(head(307, [MARK, ("location", to), ("content-length", "0")]))]

    def _odd(self, request: ProviderRequest) -> Sequence[Step]:
        own = self._plant("content coding", "odd").encode()
        coded = [MARK, ("content-encoding", own.decode()), ("content-length", str(len(own)))]
        return [Send(head(200, coded) + own)]

    def _silent(self, request: ProviderRequest) -> Sequence[Step]:
        return [Wait(SILENT_S), Cut.CLOSE]
