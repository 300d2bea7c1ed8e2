"""A configuration taken anew while calls go on: what may change, and what needs a restart."""

from __future__ import annotations

from typing import NamedTuple

from router.config.checks import cross_check
from router.config.compiled import Configuration, compile_entries
from router.config.entries import File
from router.config.file import parse
from router.config.lines import shown
from router.config.process import ArchiveEntry, AuditEntry, OtelEntry, ServerEntry, StoreEntry
from router.errors import ConfigError, Problem
from telemetry.digests import digest8

AT_START = {
    "server": (
        "host",
        "port",
        "state_dir",
        "drain_s",
        "drain_most_s",
        "max_in_flight",
        "max_queued",
        "max_held_bytes",
        "explain_days",
        "explain_max_bytes",
    ),
    "store": tuple(StoreEntry.model_fields),
    "archive": tuple(ArchiveEntry.model_fields),
    "audit": tuple(AuditEntry.model_fields),
    "otel": tuple(OtelEntry.model_fields),
}
"""What is read when a process starts: sockets, files, threads and other processes hang on it."""


class Taken(NamedTuple):
    """A configuration that may go into force."""

    configuration: Configuration
    text: str
    needs_restart: tuple[str, ...]  # fields that stay as they were


def version_of(text: str) -> int:
    """Return the digest by which a configuration is known."""
    return digest8("configuration", text)


def take(text: str, *, file: str, running: Configuration) -> Taken:
    """Return the configuration in `text`, but for what cannot change while this one runs.

    Keys are read again, from files and from the process's environment.

    Raises:
        ConfigError: with every problem, also of the whole that the fields which stay make with it.
    """
    entries = parse(text, file=file)
    held, needs_restart = _hold(entries, running)
    if needs_restart:
        problems = [Problem(0, shown(at), value, hint) for at, value, hint in cross_check(held)]
        if problems:
            raise ConfigError(file, problems)
    try:
        configuration = compile_entries(
            held, version=version_of(text), secrets=True, keys=running.catalog.keys
        )
    except LookupError as error:  # a key went between the check and now
        raise ConfigError(file, [Problem(0, "auth", "missing", str(error))]) from None
    return Taken(configuration, text, needs_restart)


def _hold(entries: File, running: Configuration) -> tuple[File, tuple[str, ...]]:
    """Return the entries with what was read at the start as it is, and names of what differs."""
    differing: list[str] = []
    kept: dict[str, ServerEntry | StoreEntry | ArchiveEntry | AuditEntry] = {}
    for section, fields in AT_START.items():
        wanted, now = getattr(entries, section), getattr(running, section)
        changed = {
            name: getattr(now, name)
            for name in fields
            if getattr(wanted, name) != getattr(now, name)
        }
        differing += [f"{section}.{name}" for name in changed]
        kept[section] = wanted.model_copy(update=changed)
    return entries.model_copy(update=kept), tuple(differing)
