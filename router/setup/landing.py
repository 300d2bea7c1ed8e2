"""A configuration file comes to be: whole or not at all, and in no other's place unasked."""

from __future__ import annotations

import difflib
import os
import re
import secrets
from pathlib import Path

from router.config.masking import masked

_DIGEST = re.compile(r"(sha256:[0-9a-f]{64})\b")
ALL = 0o666
"""The file names variables and digests alone: who may read it, the user's own mask says."""


class CannotLand(Exception):
    """The file cannot be written; says why, and what to do."""


def check_target(path: Path) -> str | None:
    """Return what lies there already, None where nothing does.

    Raises:
        CannotLand: what lies there is no file that could be compared, or nothing can be made there.
    """
    try:
        if path.is_symlink() and not path.exists():
            raise CannotLand(
                f"{path} is a link to {path.readlink()}, which is not there: remove the link, or "
                "make what it leads to"
            )
        if path.is_dir():
            raise CannotLand(f"{path} is a directory: name a file by --config")
        if path.exists() and not path.is_file():
            raise CannotLand(f"{path} is no plain file: name another by --config")
        return path.read_text(encoding="utf-8") if path.exists() else None
    except UnicodeDecodeError:
        raise CannotLand(f"{path} is there and holds no text: name another by --config") from None
    except OSError as error:
        raise CannotLand(
            f"{path} cannot be read ({error.strerror}): name another by --config"
        ) from None


def difference(path: Path, before: str, after: str) -> str:
    """Return how a file would change, as a unified diff; a key that stands in it is not shown."""
    names = (str(path), f"{path} by init")
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), *names, lineterm="")
    return "\n".join(_shown(line) for line in lines)


def _shown(line: str) -> str:
    """Return a line without keys; the digest of one is none."""
    return "".join(
        part if _DIGEST.fullmatch(part) else masked(part) for part in _DIGEST.split(line)
    )


def write_file(path: Path, text: str, *, instead: bool) -> None:
    """Put a file there whole, on disk before it has its name.

    Args:
        instead: whether what lies there goes; of a link, what it leads to.

    Raises:
        CannotLand: it cannot be written, or without `instead` something is there by now.
    """
    target = path.resolve() if instead else path
    fresh = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, ALL)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            _name(fresh, target, instead=instead)
        finally:
            fresh.unlink(missing_ok=True)
        _sync_directory(target.parent)
    except FileExistsError:
        raise CannotLand(f"{path} has come to be meanwhile: run init again") from None
    except OSError as error:
        raise CannotLand(
            f"{path} cannot be written ({error.strerror}): name another place by --config"
        ) from None


def _name(fresh: Path, target: Path, *, instead: bool) -> None:
    """Give the file its name; a link fails where somebody was faster, and is not everywhere."""
    if instead:
        fresh.chmod(target.stat().st_mode & 0o777)
        fresh.replace(target)
        return
    try:
        os.link(fresh, target)
    except FileExistsError:
        raise
    except OSError:
        if target.exists():
            raise FileExistsError(str(target)) from None
        fresh.replace(target)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
