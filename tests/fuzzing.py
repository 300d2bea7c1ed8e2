"""Parts for fuzzing: a sidecar without sockets, inputs made by mutation, and what must hold."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import yaml
from conftest import LEARN, ROUTED, SHARDS, answer, until
from dialects import message, response

from router import server
from router.config.compiled import compile_text
from router.errors import STATUS
from scripts.proofs.within import RecordedExchange
from telemetry import frames, keys
from telemetry.numbers import SHOWN
from telemetry.store import Address, connect

TIMES = float(os.environ.get("FUZZ_TIMES", "1"))
"""By hand: so many times the inputs of a plain run of the tests."""
SEED = int(os.environ.get("FUZZ_SEED", "0"))
"""By hand: other inputs."""


def times(n: int) -> int:
    """How many inputs are tried where a plain run tries `n`."""
    return max(int(n * TIMES), 1)


# -- a sidecar without sockets ------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """What came back."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Inside:
    """A sidecar in this thread: requests go in without a server, its provider is in memory."""

    def __init__(self, value: dict[str, Any], state_dir: Path, address: Address) -> None:
        whole = {**value, "server": {"port": 0, "state_dir": str(state_dir)}}
        whole["store"] = {"shards": SHARDS}
        configuration = compile_text(yaml.safe_dump(whole, sort_keys=False), file="test.yaml")
        self.n_upstream = 0
        self.loop = asyncio.new_event_loop()
        transport = httpx.MockTransport(self._provider)
        self.app = self.loop.run_until_complete(self._make(configuration, address, transport))

    async def _make(self, configuration: Any, address: Address, transport: Any) -> server.Sidecar:
        app = server.Sidecar(configuration, address, transport=transport)
        await app.start()
        return app

    def close(self) -> None:
        self.loop.run_until_complete(self.app.stop())
        self.loop.close()

    async def _provider(self, request: httpx.Request) -> httpx.Response:
        self.n_upstream += 1
        said = ANSWERS.get(request.url.path.rpartition("/")[2], answer)()
        return httpx.Response(200, content=said, headers={"content-type": "application/json"})

    @property
    def n_written(self) -> int:
        """Records in the journal, sent or not: what any input had as its effect."""
        of_shards = self.app.writer._journal._counts[:-1]  # the last is the audit trail's
        return sum(of_shards)

    def ask(
        self,
        method: str,
        path: bytes,
        body: bytes = b"",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> Answered:
        """Send one request and return what came back; an exception of the sidecar is raised."""
        return self.loop.run_until_complete(self._ask(method, path, body, headers or []))

    async def _ask(
        self, method: str, path: bytes, body: bytes, headers: list[tuple[bytes, bytes]]
    ) -> Answered:
        exchange = RecordedExchange(method, path, [(b"host", b"127.0.0.1"), *headers], body)
        await self.app.routes.serve(exchange)
        return Answered(exchange.status, b"".join(exchange.parts))


PLAIN = {"model": "m", "messages": [], "input": []}
ANSWERS = {
    "messages": lambda: json.dumps(message({**PLAIN, "messages": [{}]})).encode(),
    "responses": lambda: json.dumps(response(PLAIN)).encode(),
    "count_tokens": lambda: b'{"input_tokens":3}',
}
"""What the provider says, by the end of a call's path; else it answers as Chat Completions."""
DOORS = {
    "endpoints": [
        {
            "id": name,
            "model": name,
            "base_url": f"http://127.0.0.1:9/{name}/v1",
            "dialects": ["chat", "messages", "responses"],
        }
        for name in ("a", "b")
    ],
    "tasks": {"code": None, "chat": None},
    "strategies": LEARN,
    "apps": ROUTED,
}
PASSING = {
    **DOORS,
    "providers": {"p": {"base_url": "http://127.0.0.1:9/p/v1", "passthrough": True}},
}


@contextmanager
def inside(value: dict[str, Any], state_dir: Path, address: Address) -> Iterator[Inside]:
    """Yield a sidecar; at the end the store holds exactly what was written, no record more."""
    found = Inside(value, state_dir, address)
    try:
        yield found
        counters = found.app.writer.counters
        until(lambda: counters.sent == found.n_written)
        with closing(connect(address)) as client:
            assert n_stored(client) == found.n_written
        assert not counters.dropped.total()
    finally:
        found.close()


def n_stored(client: Any) -> int:
    """How many records lie in the streams."""
    entries = [e for s in range(SHARDS) for e in client.xrange(keys.stream(s))]
    return sum(frames.unpack(fields[b"f"]).n_records for _, fields in entries)


# -- inputs -------------------------------------------------------------------------------------

ODD = (
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"-0",
    b"1.0",
    b"4.10",
    b"18446744073709551616",
    b"1" * 5000,
    b"0.00000000000000000000000000000000000001",
    b'""',
    b'"\\ud800"',
    b'"\\u0000"',
    b'"' + "é🙂\u202e".encode() + b'"',
    b'"' + b"long value " * 30 + b'"',
    b'{"a":1,"a":2}',
    b"[" * 600,
    b"[" * 2000 + b"]" * 2000,
    b'{"x":' * 600 + b"1" + b"}" * 600,
    b"{}",
    b"[]",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc3\x28",
    b"\x00",
    b",",
    b":",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"'",
    b"\r",
    b"\n",
    b" = ",
)


WORDS = re.compile(rb'"[^"\n]*"|[\w.]+')
"""Names and values, to be put in each other's place."""


def mutated(
    rng: random.Random, body: bytes, tokens: list[bytes], odd: tuple[bytes, ...] = ODD
) -> bytes:
    """A body with a few places changed: values for others, pieces cut, doubled, moved, or noise."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        a, b = sorted((rng.randint(0, len(body)), rng.randint(0, len(body))))
        match rng.randrange(7):
            case 0 | 1:  # a whole value or name for another
                old = rng.choice(tokens)
                at = body.find(old, rng.randint(0, len(body)))
                if at >= 0:
                    new = rng.choice(odd if rng.random() < 0.6 else tokens)
                    body = body[:at] + new + body[at + len(old) :]
            case 2:
                body = body[:a] + body[min(b, a + 12) :]
            case 3:
                body = body[:b] + body[a:b] + body[b:]
            case 4:
                body = body[:a] + rng.choice(odd) + body[a:]
            case 5:
                body = body[:a] + rng.randbytes(rng.randint(1, 4)) + body[a + 1 :]
            case 6:
                body = body[:a] if rng.random() < 0.3 else body[:a] + rng.choice(tokens) + body[a:]
    return body


def mutations(name: str, n: int, *bodies: bytes, odd: tuple[bytes, ...] = ODD) -> Iterator[bytes]:
    """Yield `n` inputs, the same ones in every run with one seed."""
    rng = random.Random(f"{name} {SEED}")
    tokens = sorted({word for body in bodies for word in WORDS.findall(body)})
    for _ in range(times(n)):
        yield mutated(rng, rng.choice(bodies), tokens, odd)


def smallest(value: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A smaller input that fails likewise: what can be left out is, from halves down to bytes."""
    size = max(len(value) // 2, 1)
    while size:
        at = 0
        while at < len(value):
            less = value[:at] + value[at + size :]
            if fails(less):
                value = less
            else:
                at += size
        size //= 2
    return value


def each(inputs: Iterator[bytes], check: Callable[[bytes], None]) -> None:
    """Check every input; of one that fails the smallest form is shown."""
    for value in inputs:
        try:
            check(value)
        except AssertionError:
            least = smallest(value, lambda less: _fails(check, less))
            print(f"smallest input: {least!r}")
            check(least)
            raise


def _fails(check: Callable[[bytes], None], value: bytes) -> bool:
    try:
        check(value)
    except AssertionError:
        return True
    return False


# -- what must hold -----------------------------------------------------------------------------


def repeats(said: str, given: str) -> str:
    """The first piece of what was given that is repeated and longer than a message may repeat."""
    n = SHOWN + 3  # blanks or quotes of our own beside it may be the same as there
    for at in range(0, len(given) - n + 1):
        if given[at : at + n] in said:
            return given[at : at + n]
    return ""


def require_refusal(got: Answered, given: bytes) -> dict[str, Any]:
    """Return the error of a refusal, which says what is wrong and repeats little of it."""
    assert 400 <= got.status < 500, (got.status, got.body[:400])
    error = got.json["error"]
    assert STATUS[error["code"]] == got.status
    assert error["message"]
    assert error["param"] is None or isinstance(error["param"], str)
    texts = [error["message"], error["param"] or ""]
    for problem in error.get("problems", ()):
        texts += [problem["message"], problem["field"]]
    long = [part for part in _parts(given) if len(part) > SHOWN]
    for text in texts:
        for part in long:
            assert not (again := repeats(text, part)), f"repeats {again!r}"
    return error


def _parts(given: bytes) -> Iterator[str]:
    """Yield what was given as it stands, and every name and text in it as JSON reads them."""
    yield given.decode("utf-8", "replace")
    if b"\\" not in given:
        return
    try:
        left = [msgspec.json.decode(given)]
    except (ValueError, RecursionError):
        return
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += [*part, *part.values()]
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str):
            yield part
