"""`pointsman key`: keys of callers are made, listed and revoked.

Which keys hold is said by the configuration alone, and its owner edits it: what is printed here is
what to write there, and where. A key is shown once, when it is made, and is kept nowhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from router.commands.console import BAD_INPUT, fail, print_json, say
from router.config.file import read
from router.config.key_lines import LEAST_DIGITS, KeyLine, find_keys, line_of_app
from router.config.keys import DEFAULT_APP, hashed, make_key, short_id
from router.config.named import did_you_mean
from router.config.places import find_file
from router.config.tree import Tree, parse_yaml
from router.endpoints.entry import is_name
from router.errors import ConfigError

ONCE = "this key is shown once, and kept nowhere: only its digest goes into the file"
TAKEN = "the file is yours, and was not changed; a running sidecar takes what you change in seconds"


def key(
    what: str, id_: str, *, app: str | None, admin: bool, config: Path | None, as_json: bool
) -> None:
    """Make a key, list those of the configuration, or say how one is revoked."""
    match what:
        case "make":
            _make(app, admin=admin, config=config, as_json=as_json)
        case "list":
            _list(config, as_json=as_json)
        case "revoke":
            _revoke(id_, config, as_json=as_json)
        case _:
            fail(f"there is no key {what!r}; known: make, list, revoke", BAD_INPUT)


def _make(app: str | None, *, admin: bool, config: Path | None, as_json: bool) -> None:
    """Print a new key, and the line of the configuration that lets it in."""
    if admin and app is not None:
        fail("a key is an app's or the admin's: leave out --app or --admin", BAD_INPUT)
    if app is not None and not is_name(app):
        fail(f"--app {app}: use letters, digits and . _ / @ + -", BAD_INPUT)
    made = make_key()
    digest = hashed(made)
    line = f"admin_key: {digest}" if admin else f"keys: [{digest}]"
    if as_json:
        print_json({"key": made, "line": line, "id": short_id(digest)})
    else:
        print(f"{made}\n{line}")
    say(ONCE)
    say(_where_to_write(app, admin=admin, file=find_file(config)))


def _where_to_write(app: str | None, *, admin: bool, file: Path) -> str:
    """Return where in the file the line belongs, as far as there is a file that can be read."""
    if admin:
        return f"paste the line below server: in {file}"
    name = app or DEFAULT_APP
    try:
        tree = parse_yaml(read(file), str(file))
    except ConfigError:
        return f"paste the line below apps.{name} in {file}"
    apps = tree.root.get("apps")
    if app is None and isinstance(apps, dict) and len(apps) == 1:
        name = str(next(iter(apps)))
    beside = [found for found in find_keys(tree) if found.app == name]
    if beside:
        return f"app {name} has keys: add the digest to their list, {file}:{beside[0].line}"
    line = line_of_app(tree, name)
    if line is None:
        near = did_you_mean(name, [str(each) for each in apps] if isinstance(apps, dict) else [])
        return f"no app {name} stands in {file} yet: write apps.{name} and the line below it{near}"
    return f"paste the line below apps.{name}, {file}:{line}"


def _list(config: Path | None, *, as_json: bool) -> None:
    file = find_file(config)
    found = find_keys(_tree(file))
    if as_json:
        print_json({"file": str(file), "keys": [_row(each) for each in found]})
        return
    wide = max((len(each.place) for each in found), default=0)
    for each in found:
        print(f"{each.place:<{wide}}  {each.id:<19}  {file}:{each.line}")
    if not any(each.app is not None for each in found):
        say("no app has a key: on loopback every call belongs to app default")


def _revoke(id_: str, config: Path | None, *, as_json: bool) -> None:
    """Say which line is to go; a beginning of the id is enough where only one key has it."""
    file = find_file(config)
    found = find_keys(_tree(file))
    if not id_:
        fail("name the key by its id, as `pointsman key list` shows it", BAD_INPUT)
    meant = [each for each in found if each.is_meant_by(id_)]
    if not meant:
        hint = f"an id is {LEAST_DIGITS} digits at least, as `pointsman key list` shows it"
        fail(f"no key of {file} has this id; {hint}", BAD_INPUT)
    if len(meant) > 1:
        shown = ", ".join(f"{each.id} ({each.place})" for each in meant)
        fail(f"several keys begin so: {shown}", BAD_INPUT)
    (each,) = meant
    if as_json:
        print_json({"file": str(file), "remove": _row(each)})
    else:
        print(f"remove {each.id}, {each.place}: {file}:{each.line}")
    say(TAKEN)
    if each.app is not None and sum(other.app == each.app for other in found) == 1:
        say(f"app {each.app} has no other key: `pointsman key --app {each.app}` makes one")


def _row(each: KeyLine) -> dict[str, Any]:
    return {"app": each.app, "place": each.place, "id": each.id, "line": each.line}


def _tree(file: Path) -> Tree:
    """Return what the file holds, sound or not: a key is to be found in a broken one, too."""
    try:
        return parse_yaml(read(file), str(file))
    except ConfigError as error:
        fail(str(error), BAD_INPUT)
