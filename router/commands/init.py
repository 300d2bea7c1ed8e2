"""`pointsman init`: a first configuration, from the environment or from LiteLLM's."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from router.commands.check import problems_here
from router.commands.console import BAD_INPUT, FAILED, fail, say
from router.commands.init_told import LOOPBACK, PORTS, Prepared, tell
from router.commands.state import require_state
from router.config.file import parse
from router.config.keys import DEFAULT_APP, hashed, make_key
from router.config.nodes import MAX_FILE_BYTES
from router.config.places import find_file
from router.config.tree import parse_yaml
from router.errors import ConfigError, Problem
from router.net.address import CannotListen, bound
from router.setup.asking import Ask, ask_app, ask_choices, usual_choices
from router.setup.choices import offers_of
from router.setup.draft import MOST_LINES, Draft, draft_yaml
from router.setup.drafting import draft_of
from router.setup.found import FoundProviders, find_providers
from router.setup.kept import kept_keys, with_kept
from router.setup.known import variables
from router.setup.landing import CannotLand, check_target, difference, write_file

LITELLM = "litellm"
MOST_PORT = 65535
ANSWER_S = 1.0
"""A server of one's own says at once which models it has."""
STATE_FIELD = "server.state_dir"
NO_KEYS = (
    "no key of a provider is set, and nothing was written. Looked for: {}. Export one (a file .env "
    "is not read) and run init again; scripts/demo shows the whole loop on simulated endpoints, "
    "without any"
)
NOT_CHANGED = (
    "{} is there already and says something else: it was not changed. Run init in a terminal to be "
    "asked, move the file away, or name another by --config"
)
GONE = (
    "the working directory is not there any more: change into one that is, or name whole paths, "
    "such as --config /srv/pointsman.yaml"
)
ENDED = "ended without an answer: nothing was written"


def init(config: Path | None, *, yes: bool, source: str, file: Path | None, as_json: bool) -> None:
    """Write a configuration from what is at hand; an existing one goes by a person's word alone.

    Without a terminal, and with `--json`, every default is taken as with `--yes`, and that is said.
    """
    target = find_file(config)
    _require_directory(target, file)
    is_asked = not (yes or as_json) and sys.stdin.isatty() and sys.stderr.isatty()
    if not (is_asked or yes or as_json):
        say("nobody can be asked here: the defaults are taken, as with --yes")
    ask = _ask if is_asked else None
    before = _target(target)
    port = _port(before)
    draft = _imported(source, file, target, ask) if source or file else _found(ask, port)
    made = _prepared(draft, target, port, before)
    if before is None:
        _write(target, made, instead=False)
    elif before != made.text:
        say(difference(target, before, made.text))
        if ask is None or ask(f"Write this to {target}? yes or no [no] ").lower() not in (
            "yes",
            "y",
        ):
            fail(NOT_CHANGED.format(target), FAILED)
        _write(target, made, instead=True)
    tell(target, made, config, as_json=as_json, is_new=before != made.text)


def _require_directory(*paths: Path | None) -> None:
    """End where a path is to be read from a working directory that was removed."""
    if all(path is None or path.is_absolute() for path in paths):
        return
    try:
        Path.cwd()
    except OSError:
        fail(GONE, FAILED)


def _target(target: Path) -> str | None:
    """Return what lies at the target; end where nothing can be written, before a question."""
    try:
        before = check_target(target)
    except CannotLand as problem:
        fail(str(problem), FAILED)
    folder = target.parent
    if not folder.is_dir():
        fail(f"{target}: there is no directory {folder}: make it, or name another file", FAILED)
    if not os.access(folder, os.W_OK | os.X_OK):
        fail(f"{folder} cannot be written: name a file elsewhere by --config", FAILED)
    return before


def _ask(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    try:
        line = sys.stdin.readline()
    except UnicodeDecodeError:
        return "?"  # no answer to anything: it is asked again
    except KeyboardInterrupt:
        line = ""
    if not line:
        say("")
        fail(ENDED, FAILED)
    return line.strip()


def _found(ask: Ask | None, port: int) -> Draft:
    """Return the draft of what the environment has."""
    ours = {each for each in (PORTS[0], port) if _is_ours(each)}
    found: FoundProviders = find_providers(os.environ, _models_at, ours)
    if not found.providers:
        for note in found.notes:
            say(note)
        fail(NO_KEYS.format(", ".join(variables())), FAILED)
    at_s = time.time()
    choose, notes = usual_choices, found.notes
    if ask is not None:
        asked, notes = ask, []
        for note in found.notes:  # who is asked knows before why somebody is not listed
            say(note)

        def choose(providers: Sequence[Any]) -> Any:
            return ask_choices(providers, ask=asked, say=say, at_s=at_s)

    draft = draft_of(choose(found.providers), offers_of(found.providers), at_s)
    return replace(draft, notes=(*notes, *found.notes_of(draft.providers), *draft.notes))


def _is_ours(port: int) -> bool:
    """Return whether an address at this port is a sidecar's, or nobody's by now."""
    import httpx

    try:
        told = httpx.get(f"http://{LOOPBACK}:{port}/readyz", timeout=ANSWER_S, trust_env=False)
        return isinstance(told.json(), dict) and "degraded" in told.json()
    except httpx.ConnectError:
        return True
    except (httpx.HTTPError, ValueError):
        return False


def _imported(source: str, file: Path | None, target: Path, ask: Ask | None) -> Draft:
    """Return the draft of another program's file."""
    if source != LITELLM:
        word = f"--from {source}: " if source else f"{file}: "
        fail(f"{word}write --from {LITELLM} FILE; no other kind is read", BAD_INPUT)
    if file is None:
        fail(f"--from {LITELLM}: name the file, such as config.yaml", BAD_INPUT)
    if file.absolute() == target.absolute():
        fail(f"{file} is what would be written: name another by --config", BAD_INPUT)
    from router.setup.litellm import read_litellm

    try:
        text = _read(file)
        app = DEFAULT_APP if ask is None else ask_app(ask=ask, say=say)
        draft: Draft = read_litellm(text, file=str(file), app=app)
    except UnicodeDecodeError:
        fail(f"{file} holds no text: save it as UTF-8", BAD_INPUT)
    except OSError as error:
        fail(f"{file} cannot be read ({error.strerror})", BAD_INPUT)
    except (ConfigError, ValueError) as error:
        fail(str(error), BAD_INPUT)
    return draft


def _read(file: Path) -> str:
    """Return a file's text; what has no end is not read to it.

    Raises:
        ConfigError: it is too long.
    """
    with file.open("rb") as source:
        read = source.read(MAX_FILE_BYTES + 1)
    if len(read) > MAX_FILE_BYTES:
        hint = "4 MiB at most: leave out what is no model_list and no setting"
        raise ConfigError(
            str(file), [Problem(1, "file", f"more than {MAX_FILE_BYTES} bytes", hint)]
        )
    return read.decode()


def _models_at(base_url: str) -> list[str] | None:
    """Return the models that a server of one's own says it has; None: it does not answer."""
    import httpx

    try:
        got = httpx.get(f"{base_url}/models", timeout=ANSWER_S, trust_env=False)
        return [str(model["id"]) for model in got.raise_for_status().json()["data"] or []]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError, KeyError, AttributeError):
        return None


def _port(before: str | None) -> int:
    """Return the usual port, or the next that nobody has; a file that is there keeps its own."""
    usual = PORTS[0]
    if before is not None:
        with suppress(ConfigError, LookupError, TypeError, ValueError, AttributeError):
            port = int(parse_yaml(before, "").root["server"]["port"])
            return port if 0 < port <= MOST_PORT else usual
        return usual
    for port in PORTS:
        with suppress(CannotListen):
            for one in bound(LOOPBACK, port):
                one.close()
            return port
    return usual


def _with_keys(draft: Draft, before: str | None) -> tuple[Draft, str]:
    """Return the draft with its app's keys, those of the file that is there first, and a new one.

    A new one, which is "" else, is made where a named app has none: what clients hold stays good.
    """
    kept = kept_keys(before, draft.app)
    keys = with_kept(draft.app_entry.get("keys", ()), kept)
    key = make_key() if draft.app != DEFAULT_APP and not keys else ""
    keys += [hashed(key)] if key else []
    entry = {**draft.app_entry, "keys": keys} if keys else draft.app_entry
    return replace(draft, app_entry=entry), key


def _prepared(draft: Draft, target: Path, port: int, before: str | None) -> Prepared:
    """Return the file's text, which `check` takes: what it would say of this machine is a note."""
    draft, key = _with_keys(draft, before)
    draft = replace(draft, app_entry={"mode": "observe", **draft.app_entry})
    notes = list(draft.notes)
    server: dict[str, Any] = {} if port == PORTS[0] else {"port": port}
    if server:
        notes.append(f"this sidecar listens at port {port}: {PORTS[0]} is another's")
    beside = {**server, "state_dir": str(_beside(target))}
    text = draft_yaml(draft, server=beside, starter_tasks=True)
    problem = _state_problem(text, target)
    if problem is None:
        server = beside
    else:
        notes.append(f"the state lies in its usual place, not beside the file: {problem}")
        text = draft_yaml(draft, server=server, starter_tasks=True)
    try:
        entries = parse(text, file=str(target), secrets=False)
    except ConfigError as error:
        fail(f"what init would write is not sound, and was not written:\n{error}", FAILED)
    notes += [f"{one.field}: {one.hint}" for one in problems_here(entries)]
    notes += _missing(text, target)
    if (n := text.count("\n")) > MOST_LINES:
        notes.append(f"the file has {n} lines; fewer models make it shorter")
    return Prepared(draft, text, server, tuple(notes), key)


def _beside(target: Path) -> Path:
    """Return where the state lies: next to its file, by a name of the file's own."""
    usual = target.stem == "pointsman"
    name = ".pointsman" if usual else f".pointsman-{target.stem}"
    return Path(os.path.abspath(target.parent)) / name


def _state_problem(text: str, target: Path) -> str | None:
    """Return what keeps the state from lying beside the file, such as the name of a directory."""
    try:
        entries = parse(text, file=str(target), secrets=False)
    except ConfigError as error:
        problems: Sequence[Any] = error.problems
    else:
        problems = list(problems_here(entries))
    return next((one.hint for one in problems if one.field == STATE_FIELD), None)


def _missing(text: str, target: Path) -> list[str]:
    """Return what the file rests on and is not there yet, such as a key of an imported endpoint."""
    try:
        parse(text, file=str(target))
    except ConfigError as error:
        return [f"before `pointsman up`: {hint}" for hint in {p.hint: 0 for p in error.problems}]
    return []


def _write(target: Path, made: Prepared, *, instead: bool) -> None:
    if named := made.server.get("state_dir"):
        state_dir = Path(named)
        is_new = not state_dir.exists()
        require_state(state_dir)
        if is_new:
            (state_dir / ".gitignore").write_text("*\n")  # keys and calls are in no repository
    try:
        write_file(target, made.text, instead=instead)
    except CannotLand as problem:
        fail(str(problem), FAILED)
