"""What `pointsman init` says of the file that it wrote, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from router.commands.console import print_json
from router.setup.draft import Draft
from router.setup.kept import variable_of

LOOPBACK = "127.0.0.1"
PORTS = range(8787, 8807)
"""The usual one, and those that are taken where it is another's."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A file as it is to be written, and what is to be said of it."""

    draft: Draft
    text: str
    server: dict[str, Any]
    notes: tuple[str, ...]
    key: str = ""  # of the app, which is shown once


def tell(target: Path, made: Prepared, config: Path | None, *, as_json: bool, is_new: bool) -> None:
    """Say what the file holds, what it does not, and the two commands that come next."""
    draft, named = made.draft, f" --config {shlex.quote(str(config))}" if config is not None else ""
    incumbent = draft.app_entry.get("incumbent") or draft.endpoints[0]["id"]
    commands = [f"pointsman up{named}", _call(made)]
    if as_json:
        print_json(
            {
                "ok": True,
                "file": str(target),
                "written": is_new,
                "lines": made.text.count("\n"),
                "app": draft.app,
                "key": made.key or None,
                "incumbent": incumbent,
                "endpoints": [endpoint["id"] for endpoint in draft.endpoints],
                "state_dir": made.server.get("state_dir"),
                "left_out": [{"place": one.place, "why": one.why} for one in draft.left_out],
                "notes": list(made.notes),
                "next": commands,
            }
        )
        return
    _print(target, made, incumbent, commands, is_new=is_new)


def _call(made: Prepared) -> str:
    """Return how an app is started so that it calls through here."""
    url = f"http://{LOOPBACK}:{made.server.get('port', PORTS[0])}"
    held = made.key
    if not held and (keys := made.draft.app_entry.get("keys")):
        held = f"${variable}" if (variable := variable_of(keys)) else "…"
    key = f" OPENAI_API_KEY={held}" if held else ""
    other = f"ANTHROPIC_BASE_URL={url}" + (", ANTHROPIC_API_KEY" if key else "")
    return f"OPENAI_BASE_URL={url}/v1{key} python your_app.py   # or {other}"


def _print(
    target: Path, made: Prepared, incumbent: str, commands: Sequence[str], *, is_new: bool
) -> None:
    draft = made.draft
    how = f"{made.text.count(chr(10))} lines" if is_new else "it says all this already"
    print(f"{target}: {how}; app {draft.app} in mode observe, where nothing is routed")
    wide = max(len(name) for name in draft.providers) if draft.providers else 0
    for name, entry in draft.providers.items():
        own = [each for each in draft.endpoints if each.get("provider") == name]
        ids = [str(each["id"]) for each in own]
        shown = ", ".join(f"{id_} (has the calls)" if id_ == incumbent else id_ for id_ in ids)
        keys = dict.fromkeys(_key_shown(each.get("auth") or entry.get("auth")) for each in own)
        print(f"  {name:<{wide}}  {shown or 'no endpoint'}; {', '.join(keys) or 'no key'}")
    reasons: dict[str, list[str]] = {}
    for one in draft.left_out:
        reasons.setdefault(one.why, []).append(one.place)
    for why, places in reasons.items():
        print(f"left out: {', '.join(places)}: {why}")
    for note in made.notes:
        print(f"note: {note}")
    if made.key:
        print(f"key of app {draft.app}, shown once: {made.key}")
    elif held := draft.app_entry.get("keys"):
        how = f"in {variable}" if (variable := variable_of(held)) else "that it has already"
        print(f"key of app {draft.app}: the one {how}")
    print("next:")
    for command in commands:
        print(f"  {command}")


def _key_shown(auth: Any) -> str:
    if not isinstance(auth, dict):
        return "the caller's key" if auth == "client" else "no key"
    source: Callable[[str], Any] = auth.get
    return f"key from {source('env') or source('file') or 'a command'}"
