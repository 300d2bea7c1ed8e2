"""Where the state lies, as far as a file names it; for whatever must work with a broken one."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from router.config.lines import Spot
from router.config.tree import NO_TEXT, parse_yaml
from router.errors import ConfigError, RouterError
from telemetry.keys import DEFAULT_PREFIX

STORE_PREFIX = "[a-z0-9][a-z0-9_-]{0,31}"
"""Nothing that a pattern of keys or a hash tag gives a meaning to."""
NULLS = ("", "~", "null", "Null", "NULL")
OFF_FILE, ON_FILE = "off", "on"
"""In the state directory: the last word of the switch, for whoever shares it."""


NAMING = (("server", "state_dir"), ("store", "url_env"), ("store", "prefix"))
"""Fields that say where the state lies."""
FIXES = {
    errno.EACCES: "give its owner, or whoever runs pointsman, the right to write there",
    errno.EPERM: "give its owner, or whoever runs pointsman, the right to write there",
    errno.EROFS: "the file system is read-only; name a directory on another one",
    errno.ENOSPC: "the disk is full; make room, or name a directory on another one",
    errno.EDQUOT: "the quota is used up; make room, or name a directory on another disk",
    errno.ENOTDIR: "a part of this path is a file; name a directory",
    errno.EEXIST: "this is a file; name a directory",
    errno.ENAMETOOLONG: "name a shorter path",
}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class NoHome(RouterError):
    """The state directory is a user's own, and this one has no home."""


def find_file(given: Path | None) -> Path:
    """Return the configuration file: as given, else `$POINTSMAN_CONFIG`, else here."""
    return given or Path(os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml")


def state_directory(named: Path | None) -> Path:
    """Return where journal, keys and the private store live: as named, else the user's own.

    Raises:
        NoHome: it is in a home directory, and there is none.
    """
    own = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "pointsman"
    path = own if named is None else named
    try:
        return path.expanduser()
    except RuntimeError:
        fix = "set HOME, or name a directory by server.state_dir"
        raise NoHome(f"server.state_dir: {path}: there is no such home directory: {fix}") from None


class Places(NamedTuple):
    """Where the state lies."""

    named: Path | None  # the state directory, where one is named
    store_url: str | None
    store_prefix: str
    unset: str = ""  # the variable that is to hold the store's URL, and does not
    unread: str = ""  # why the file could not be read

    @property
    def state_dir(self) -> Path:
        """Return the state directory.

        Raises:
            NoHome: it is in a home directory, and there is none.
        """
        return state_directory(self.named)


def places(path: Path) -> Places:
    """Return where the state lies as far as a file says so, however broken it is."""
    text, unread = "", ""
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        unread = str(error.strerror)
    try:
        spots = parse_yaml(text, str(path)).findings.spots
        said = {name: _text(spots.get((section, name))) for section, name in NAMING}
    except ConfigError:
        said = {name: _in_lines(name, text) for _, name in NAMING}
    named, variable, prefix = (said.get(name) or "" for _, name in NAMING)
    own = os.environ.get(variable)
    url = own or os.environ.get("REDIS_URL")
    prefix = prefix if re.fullmatch(STORE_PREFIX, prefix) else DEFAULT_PREFIX
    unset = "" if own else variable
    return Places(Path(named) if named else None, url, prefix, unset, unread)


def _in_lines(name: str, text: str) -> str | None:
    """Return what stands behind a name in a file that is no YAML: somebody just broke it."""
    quoted, plain = r"\"([^\"\n]*)\"|'([^'\n]*)'", r"([^\s#,}\"'*&!|>][^\n#,}]*)"
    at = rf"^(?:[^#\n]*[\s{{,])?{name}:[ \t]+(?:{quoted}|{plain})"
    found = re.search(at, text, re.M)
    value = next((part for part in found.groups() if part), "").strip() if found else ""
    return None if value in NULLS else NO_TEXT.sub("", value)


def _text(spot: Spot | None) -> str | None:
    """Return the text that is written somewhere; None where nothing is."""
    if spot is None or spot.text is None or (spot.quote is None and spot.text in NULLS):
        return None
    return NO_TEXT.sub("", spot.text)


def state_problem(directory: Path, error: OSError) -> str | None:
    """Return what keeps a state directory from being used; None where it is something else."""
    named = error.filename
    within = isinstance(named, str | bytes | os.PathLike) and _is_within(directory, named)
    if not within and error.errno not in DISK_FULL:
        return None
    where = Path(os.fsdecode(named)) if within else directory
    fix = FIXES.get(error.errno or 0, "set server.state_dir to a directory that can be written")
    return f"server.state_dir: {where}: {error.strerror}: {fix}"


def _is_within(directory: Path, named: str | bytes | os.PathLike[str]) -> bool:
    """Return whether a path is the directory, one in it, or one on the way to it."""
    path, directory = Path(os.fsdecode(named)).absolute(), directory.absolute()
    return path.is_relative_to(directory) or directory.is_relative_to(path)
