"""What verbs are given: the configuration, its store and archive, and where the sidecar is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from router.commands.console import BAD_INPUT, FAILED, fail
from router.commands.signals import ending_in_order
from router.commands.state import naming_state, require_state, state_of
from router.config.places import find_file, state_problem
from router.errors import ConfigError

if TYPE_CHECKING:
    from router.config.compiled import Configuration
    from router.config.entries import File
    from router.config.process import ServerEntry

NO_URL = "--url {}: write a whole URL, such as http://127.0.0.1:8787"
NO_CONFIGURATION = "no configuration at {}: name it by --config, or the sidecar by --url"
NO_SIDECAR = "no sidecar at {} ({}); start it with `pointsman up`"
NO_POINTSMAN = "{} answered, but is not a Pointsman sidecar (status {})"


def written(config: Path | None, *, secrets: bool = True) -> File:
    """Return the configuration as it is written; it is checked, and not compiled."""
    from router.config.file import parse, read

    file = find_file(config)
    try:
        return parse(read(file), file=str(file), secrets=secrets)
    except ConfigError as error:
        fail(str(error), BAD_INPUT)


def compiled(config: Path | None) -> Configuration:
    """Return the compiled configuration."""
    from router.config.compiled import load

    try:
        return load(find_file(config))
    except ConfigError as error:
        fail(str(error), BAD_INPUT)


@contextmanager
def opened_store(entries: File | Configuration) -> Iterator[Any]:
    """Yield the address of the configured store; a private one runs meanwhile, and ends with us."""
    from telemetry.errors import TelemetryError
    from telemetry.store import open_store

    prefix = entries.store.prefix
    url = entries.store.url() or os.environ.get("POINTSMAN_STORE_URL")
    named = entries.store.url_env if entries.store.url() else "POINTSMAN_STORE_URL"
    state_dir = state_of(entries.server)
    if not (url or os.environ.get("REDIS_URL")):
        require_state(state_dir)
    try:
        with (
            naming_state(state_dir),
            ending_in_order(),
            open_store(state_dir, url=url, named=named, prefix=prefix) as address,
        ):
            yield address
    except TelemetryError as error:
        fail(str(error), FAILED)


@contextmanager
def opened_archive(config: Path | None) -> Iterator[Any]:
    """Yield the archive of the configured store."""
    from telemetry.errors import TelemetryError
    from telemetry.store import StoreErrors, connect
    from telemetry.trouble import trouble_of
    from workers.archive.archive import Archive

    entries = written(config, secrets=False)
    state_dir = state_of(entries.server)
    with opened_store(entries) as address, closing(connect(address, timeout_s=60.0)) as client:
        try:
            yield Archive(client, state_dir / "archive", entries.store.shards)
        except TelemetryError as error:
            fail(str(error), FAILED)
        except StoreErrors as error:
            if isinstance(error, OSError) and (problem := state_problem(state_dir, error)):
                fail(problem, BAD_INPUT)
            fail(f"the store: {trouble_of(error).shown}", FAILED)


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Say in plain words why a sidecar cannot be asked."""
    import httpx

    try:
        yield
    except (httpx.UnsupportedProtocol, httpx.InvalidURL):
        fail(NO_URL.format(url), BAD_INPUT)
    except httpx.TransportError as error:
        fail(NO_SIDECAR.format(url, type(error).__name__), FAILED)


def check_layout(entries: File | Configuration, address: Any) -> None:
    """Refuse a store that was made with other shards; one that is away may come later."""
    from telemetry.errors import StoreMismatch
    from telemetry.store import StoreErrors, connect, prepare

    try:
        with closing(connect(address, timeout_s=1.0)) as client:
            prepare(client, shards=entries.store.shards)
    except StoreMismatch as error:
        fail(str(error), BAD_INPUT)
    except StoreErrors:
        return


def require_port(server: ServerEntry) -> list[int]:
    """Say at once that the address cannot be had, instead of failing over and over."""
    for descriptor in kept_port(server):
        os.close(descriptor)
    return []


def kept_port(server: ServerEntry) -> list[int]:
    """Return descriptors of sockets at the address, which programs started from here inherit."""
    from router.net.address import CannotListen, bound

    try:
        found = [one.detach() for one in bound(server.host, server.port)]
    except CannotListen as error:
        fail(str(error), FAILED if error.is_taken else BAD_INPUT)
    for descriptor in found:
        os.set_inheritable(descriptor, True)
    return found


def sidecar(url: str | None, key: str, config: Path | None) -> tuple[str, dict[str, str]]:
    """Return where the sidecar is, and the header that carries the app's key."""
    if url is None:
        url = _url_of(_server(config))
    return url, _bearer(key)


def owners_sidecar(url: str | None, key: str, config: Path | None) -> tuple[str, dict[str, str]]:
    """Return where the sidecar is, and the header that carries the admin key.

    One that is not given is the configured one, which goes to the configured address alone.
    """
    if url is not None:
        return url, _bearer(key)
    server = _server(config)
    url, headers, admin = _url_of(server), _bearer(key), server.admin_key
    if headers or admin is None:
        return url, headers
    if isinstance(admin, str):
        fail("the file holds the admin key's digest alone: give the key by --key", BAD_INPUT)
    try:
        return url, _bearer(admin.secret())
    except LookupError as error:
        fail(f"the admin key: {error}; or give it by --key", BAD_INPUT)


def _url_of(server: ServerEntry) -> str:
    if server.port == 0:
        fail("server.port is 0, any free one: say where by --url", BAD_INPUT)
    return server.url


def _server(config: Path | None) -> ServerEntry:
    """Return the section `server` of the file: who asks a sidecar needs nothing else of it.

    What is wrong with that section is told with all the rest.
    """
    from pydantic import ValidationError

    from router.config.process import ServerEntry
    from router.config.tree import parse_yaml
    from router.config.unmeant import find_unmeant

    file = find_file(config)
    if not file.exists():
        fail(NO_CONFIGURATION.format(file), FAILED)
    try:
        tree = parse_yaml(file.read_text(encoding="utf-8"), str(file))
        if not (tree.findings.problems or any(find_unmeant(tree.findings.spots))):
            return ServerEntry.model_validate(tree.root.get("server") or {})
    except (OSError, UnicodeDecodeError, ConfigError, ValidationError):
        pass
    return written(config, secrets=False).server


def _bearer(key: str) -> dict[str, str]:
    if not key.isascii() or not key.isprintable():
        fail("--key holds characters that no header may carry", BAD_INPUT)
    return {"authorization": f"Bearer {key}"} if key else {}
