"""What `pointsman up` says once it listens: where, and the line for each kind of client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from router.commands.supervisor import PORT
from router.config.entries import File
from router.endpoints.entries import DEFAULT_DIALECT, Dialect, PassthroughEntry, ProviderEntry

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - what it is reached by from here
KEYS = "    {} has keys: give the client one of them in place of the provider's own"
ANY_KEY = 'api_key="any"'
"""The SDKs want one; the sidecar has the providers' own."""


def greeting_of(entries: File, state_dir: Path) -> str:
    """Return the lines, with `PORT` in place of the port; none for whom nobody here serves."""
    host = entries.server.host
    host = ANYWHERE.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{host}:{PORT}"
    served = set(_served(entries))
    lines = [f"pointsman: listening at {url}  (state in {state_dir}; Ctrl-C ends it)"]
    key = "" if _wants_own_key(entries) else f", {ANY_KEY}"
    if served & {Dialect.CHAT, Dialect.RESPONSES}:
        lines.append(f'    OPENAI_BASE_URL={url}/v1     or OpenAI(base_url="{url}/v1"{key})')
    if Dialect.MESSAGES in served:
        lines.append(f'    ANTHROPIC_BASE_URL={url}     or Anthropic(base_url="{url}"{key})')
    if len(lines) > 1:
        lines[-1] += '\n    model="auto", or the models that the app names now'
    if keyed := [name for name, app in entries.apps.items() if app.keys]:
        lines.append(KEYS.format(", ".join(f"app {name}" for name in keyed)))
    return "\n".join(lines)


def _served(entries: File) -> Iterator[Dialect]:
    """Yield the dialects in which `auto` can be called, and those that pass through."""
    for endpoint in entries.endpoints:
        provider = entries.providers.get(endpoint.provider or "") or ProviderEntry()
        yield from endpoint.dialects or provider.dialects or [DEFAULT_DIALECT]
        translate = endpoint.translate or provider.translate
        yield from translate.calls_of if translate is not None else ()
    for provider in entries.providers.values():
        if isinstance(provider.passthrough, PassthroughEntry):
            yield from provider.passthrough.dialects


def _wants_own_key(entries: File) -> bool:
    """Return whether a caller's key travels on, or lets it in."""
    has_keys = any(app.keys for app in entries.apps.values())
    hosts = [*entries.endpoints, *entries.providers.values()]
    return has_keys or any(one.auth == "client" for one in hosts)
