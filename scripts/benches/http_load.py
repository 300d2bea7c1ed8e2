"""Load on one target of `bench http`: saturation by wrk, and single calls in turn."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path

from scripts.benches.http_targets import Subject
from scripts.benches.upstream import PACED

N_SESSIONS = 500
"""Sessions that the load generator takes turns with: most calls follow a draw, some make one."""
WARM_S = 1.5

WRK_SCRIPT = """
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
{headers}
wrk.body = [==[{body}]==]
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-router-session-id"] = "bench-" .. (n % {sessions})
  return wrk.format(nil, "/v1/chat/completions")
end
done = function(summary, latency, requests)
  io.stderr:write(string.format("RESULT %d %d\\n", summary.requests,
    summary.errors.status + summary.errors.read + summary.errors.write + summary.errors.connect))
end
"""


def body_of(*, streamed: bool, paced: bool = False) -> bytes:
    """Return a request of 1 kB."""
    mark = PACED.decode() if paced else "burst"
    messages = [
        {"role": "system", "content": f"You are a helpful assistant ({mark}). " + "rule " * 60},
        {"role": "user", "content": "Tell me about the signal box at the junction. " * 9},
    ]
    value = {"model": "auto", "messages": messages, "stream": streamed, "temperature": 0.2}
    return json.dumps(value, separators=(",", ":")).encode()


def saturate(
    target: Subject, directory: Path, *, connections: int, seconds: float, body: bytes
) -> int:
    """Call a target for so long with wrk; return how many calls it answered.

    Raises:
        RuntimeError: some failed.
    """
    script = directory / "load.lua"
    headers = "\n".join(f"wrk.headers[{k!r}] = [==[{v}]==]" for k, v in target.headers.items())
    script.write_text(WRK_SCRIPT.format(body=body.decode(), sessions=N_SESSIONS, headers=headers))
    duration = f"{max(round(seconds), 1)}s"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}", "-s", str(script)]
    command.append(f"http://127.0.0.1:{target.port}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    line = next(x for x in done.stderr.splitlines() if x.startswith("RESULT"))
    _, calls, errors = line.split()
    if int(errors):
        raise RuntimeError(f"{target.name}: {errors} of {calls} calls failed")
    return int(calls)


async def in_turn(
    targets: list[Subject], rps: int, seconds: float, body: bytes
) -> dict[str, list[float]]:
    """Call all targets in turn, each `rps` times a second; return latencies in microseconds.

    Of a stream it is the time to the first content: the role-only chunk does not count.
    """
    found: dict[str, list[float]] = {t.name: [] for t in targets}
    streams = {t.name: await asyncio.open_connection("127.0.0.1", t.port) for t in targets}
    for number in range(int(WARM_S * rps / 3) + int(rps * seconds)):
        for target in targets:
            began = time.perf_counter()
            taken = await _call(*streams[target.name], target, body, number)
            if number > WARM_S * rps / 3:
                found[target.name].append(taken)
            pause = 1 / rps / len(targets) - (time.perf_counter() - began)
            if pause > 0:
                await asyncio.sleep(pause)
    for _, writer in streams.values():
        writer.close()
    return found


async def _call(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    target: Subject,
    body: bytes,
    number: int,
) -> float:
    more = "".join(f"{k}: {v}\r\n" for k, v in target.headers.items()).encode()
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\nx-router-session-id: bench-%d\r\n"
        b"content-length: %d\r\n%b\r\n" % (number % N_SESSIONS, len(body), more)
    )
    began = time.perf_counter()
    writer.write(head + body)
    answer_head = await reader.readuntil(b"\r\n\r\n")
    if b"chunked" not in answer_head.lower():
        length = int(answer_head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        return (time.perf_counter() - began) * 1e6
    first = 0.0
    while True:
        size = int(await reader.readline(), 16)
        data = await reader.readexactly(size + 2)
        if not first and b"word" in data:
            first = (time.perf_counter() - began) * 1e6
        if size == 0:
            return first
