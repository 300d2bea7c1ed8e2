#!/usr/bin/env python3
"""Tell Pointsman how a coding agent's session goes: tests, commits and reverts.

A hook of Claude Code and of Codex, run after each of the agent's shell commands, with what the
tool says of it on stdin. Needs Python 3.9 and the two files beside it. It sends a label and the
session's id: never a command, a path, an output or a prompt. It says nothing on stdout, always
exits with 0 and gives up after two seconds: it decides nothing, and holds nobody up.

From the environment:
    POINTSMAN_URL: of the sidecar.
    POINTSMAN_KEY: of the app, where it has one.
    POINTSMAN_EPISODE_ID: where calls carry an `x-router-episode-id` or `-session-id` of yours.
    POINTSMAN_TEST_COMMANDS: more commands that run tests, comma separated.
    POINTSMAN_HOOK_DEBUG: say on stderr what was reported.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import sys
import threading
import time
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from agent_acts import git_act, runs_tests, said_of_git, said_of_tests
from shell_text import Finding, findings, read

URL = "http://127.0.0.1:8787"
LIMIT_S = 2.0
MAX_COMMAND = 1 << 18
TRANSCRIPT_END = 4 << 20
"""Bytes of Codex's transcript that are looked through, from its end."""
N_LOOKS, LOOK_S = 10, 0.03
"""It is written beside us."""
STOPPED = {124, 126, 127, 130, 137, 143}
"""Exit codes of what was stopped or is not there: no word on tests."""
PYTEST_RAN_NONE = {3, 4, 5}
NOT_THERE = (
    "No rule to make target",
    "Missing script",
    "no test specified",
    "command not found",
    "No module named pytest",
)


class Told(NamedTuple):
    """What a tool says of a command that its agent ran."""

    session: str
    command: str
    exit_code: int | None  # None: the tool does not tell
    output: str
    transcript: str = ""
    call: str = ""


def told(event: dict[str, Any]) -> Told | None:
    """Return what the input of a hook says; None where no command has come to its end."""
    given, response = event.get("tool_input") or {}, event.get("tool_response")
    session, command = event.get("session_id"), given.get("command")
    if isinstance(command, list):
        command = shlex.join(command)
    if not isinstance(session, str) or not session or not isinstance(command, str):
        return None
    if len(command) > MAX_COMMAND or given.get("run_in_background") or event.get("is_interrupt"):
        return None
    if event.get("hook_event_name") == "PostToolUseFailure":  # Claude Code
        first, _, output = str(event.get("error") or "").partition("\n")
        digits = first[len("Exit code ") :]
        is_exit = first.startswith("Exit code ") and digits.isdigit()
        return Told(session, command, int(digits), output) if is_exit else None
    if isinstance(response, dict) and "stdout" in response:  # Claude Code, exit code 0
        if response.get("interrupted") or response.get("backgroundTaskId"):
            return None
        # But for a `grep` at the end that found nothing, which it takes for no failure.
        code = 1 if response.get("returnCodeInterpretation") else 0
        return Told(session, command, code, f"{response['stdout']}\n{response.get('stderr')}")
    output = response if isinstance(response, str) else ""
    transcript, call = event.get("transcript_path"), event.get("tool_use_id")
    return Told(session, command, None, output, str(transcript or ""), str(call or ""))


def exit_code_in(transcript: str, call: str) -> int | None:
    """Return the exit code of a call from Codex's transcript, as its hooks are not told it."""
    for _ in range(N_LOOKS if transcript and call else 0):
        with open(transcript, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TRANSCRIPT_END))
            lines = file.read().splitlines()
        for line in reversed(lines):
            if b'"CommandExecution"' in line and call.encode() in line:
                item = json.loads(line)["payload"].get("item") or {}
                if item.get("id") == call and isinstance(item.get("exit_code"), int):
                    return int(item["exit_code"])
        time.sleep(LOOK_S)
    return None


def labels(heard: Told) -> list[dict[str, object]]:
    """Return what is reported of a command: nothing, or the last word of each kind."""
    node = read(heard.command)
    if not any(git_act(f.words) or runs_tests(f.words) for f in findings(node, None, "")):
        return []
    if heard.exit_code is None:
        heard = heard._replace(exit_code=exit_code_in(heard.transcript, heard.call))
    went_well = None if heard.exit_code is None else heard.exit_code == 0
    said: dict[str, object] = {}
    for found in findings(node, went_well, heard.output):
        said.update(_label(found, heard))
    return [{kind: said[kind]} for kind in ("passed", "thumb") if kind in said]


def _label(found: Finding, heard: Told) -> dict[str, object]:
    words, went_well = found
    act = git_act(words)
    if act:
        if went_well is None:
            went_well = said_of_git(heard.output, words)
        if not went_well:
            return {}
        # A test's word is stronger than a thumb: with the work it is taken back.
        return {"thumb": "up"} if act == "commit" else {"passed": None, "thumb": "down"}
    passed = _passed(found, heard) if runs_tests(words) else None
    return {} if passed is None else {"passed": passed}


def _passed(found: Finding, heard: Told) -> bool | None:
    """Return whether tests passed; what hides their exit code leaves what they say themselves."""
    if found.went_well is None:
        return said_of_tests(heard.output)
    if found.went_well:
        return True
    if heard.exit_code in STOPPED or any(text in heard.output for text in NOT_THERE):
        return None
    return None if found.words[0] == "pytest" and heard.exit_code in PYTEST_RAN_NONE else False


def report(session: str, said: list[dict[str, object]]) -> int:
    """Send labels to the sidecar; return the status of its answer."""
    url = urlsplit(os.environ.get("POINTSMAN_URL") or URL)
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc, timeout=LIMIT_S)
    base = url.path.rstrip("/")
    base = base[: -len("/v1")] if base.endswith("/v1") else base
    episode = quote(os.environ.get("POINTSMAN_EPISODE_ID") or session, safe="")
    headers = {"content-type": "application/json"}
    if key := os.environ.get("POINTSMAN_KEY"):
        headers["authorization"] = f"Bearer {key}"
    body = json.dumps(said[0] if len(said) == 1 else said)
    connection.request("POST", f"{base}/v1/router/episodes/{episode}/outcome", body, headers)
    return connection.getresponse().status


def work(raw: bytes, notes: list[str]) -> None:
    """Read what a hook was told and report what it means; never raises."""
    try:
        heard = told(json.loads(raw))
        said = labels(heard) if heard else []
        notes.append(json.dumps(said) if said else "nothing to report")
        if heard and said:
            notes.append(f"answer {report(heard.session, said)}")
    except Exception as error:  # whatever it is, the agent goes on
        notes.append(f"{type(error).__name__}, not reported")


def main() -> int:
    """Run the hook; return 0, whatever happens."""
    notes: list[str] = []
    # A thread: a socket's limit holds for each of its steps alone, and not for finding a name.
    arguments = (sys.stdin.buffer.read(), notes)
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    thread.join(LIMIT_S)
    if os.environ.get("POINTSMAN_HOOK_DEBUG"):
        late = ["given up"] if thread.is_alive() else []
        print("pointsman:", ", ".join([*notes, *late]), file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
