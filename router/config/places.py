"""Where the state lies, as far as a file names it; for whatever must work with a broken one."""

from __future__ import annotations

import os
from pathlib import Path

from router.config.lines import Spot
from router.config.tree import NO_TEXT, parse_yaml
from router.errors import ConfigError

NULLS = ("", "~", "null", "Null", "NULL")
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
    named, variable = None, ""
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"), str(path))
        spots = tree.findings.spots
        named = _text(spots.get(("server", "state_dir")))
        variable = _text(spots.get(("store", "url_env"))) or ""
    except (OSError, ValueError, ConfigError):
        pass
    url = os.environ.get(variable) or os.environ.get("REDIS_URL")
    return state_directory(Path(named) if named else None), url


def _text(spot: Spot | None) -> str | None:
    """Return the text that is written somewhere; None where nothing is."""
    if spot is None or spot.text is None or (spot.quote is None and spot.text in NULLS):
        return None
    return NO_TEXT.sub("", spot.text)
