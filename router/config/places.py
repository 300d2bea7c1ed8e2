"""Where the state lies, as far as a file names it; for whatever must work with a broken one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import yaml

from router.config.lines import Loader

OFF_FILE = "off"
"""In the state directory: routing is switched off for whoever shares it."""


def find_file(given: Path | None) -> Path:
    """Return the configuration file: as given, else `$POINTSMAN_CONFIG`, else here."""
    return given or Path(os.environ.get("POINTSMAN_CONFIG") or "pointsman.yaml")


def state_directory(named: Path | None) -> Path:
    """Return where journal, keys and the private store live: as named, else the user's own."""
    if named is not None:
        return named.expanduser()
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(home).expanduser() / "pointsman"


def places(path: Path) -> tuple[Path, str | None]:
    """Return state directory and store URL as far as a file names them, however broken it is."""
    tree: Any = None
    with contextlib.suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        tree = yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - a SafeLoader
    tree = tree if isinstance(tree, dict) else {}
    server = tree.get("server") if isinstance(tree.get("server"), dict) else {}
    store = tree.get("store") if isinstance(tree.get("store"), dict) else {}
    named = server.get("state_dir")
    url = os.environ.get(str(store.get("url_env"))) or os.environ.get("REDIS_URL")
    return state_directory(Path(named) if isinstance(named, str) else None), url
