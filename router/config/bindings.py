"""What is bound to nothing, or to everything: written in vain, or for more than was meant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from router.config.entries import AppEntry, File, MatchEntry, UserEntry, Users
from router.config.keys import HeldKeyEntry
from router.config.lines import shown
from router.config.masking import Place

MATCHES_ALL = (
    "a match that says nothing holds of every call; say what marks the task (tools, "
    "min_tools, schema, image, system, like), or leave match out"
)
NO_USERS = (
    "no user is configured, so that nobody's rules would hold for a call that names none; add "
    "users: {<name>: {…}}, or leave it out"
)
NOT_ACTIVE = (
    "this role is not active, so that every call with this key is refused; write active: "
    "true in roles.{role}, or leave the role out"
)


def check_bindings(entries: File) -> Iterator[tuple[Place, str, str]]:
    """Yield such lines: place, value, hint."""
    for name, task in entries.tasks.items():
        if task is not None and task.match is not None and _says_nothing(task.match):
            yield ("tasks", name, "match"), "{}", MATCHES_ALL
    for name, app in entries.apps.items():
        if app.users is Users.REQUIRED and not entries.users:
            yield ("apps", name, "users"), app.users.value, NO_USERS


def warn_of_inactive(entries: File) -> Iterator[str]:
    """Yield a line for each key that carries a role which is not active: it may be for a while."""
    holders: Mapping[str, Mapping[str, AppEntry | UserEntry]]
    holders = {"apps": entries.apps, "users": entries.users}
    for section, named in holders.items():
        for name, holder in named.items():
            for i, key in enumerate(holder.keys):
                role = key.role if isinstance(key, HeldKeyEntry) else None
                if role in entries.roles and not entries.roles[role].active:
                    where = shown((section, name, "keys", i, "role"))
                    yield f"{where}: {role}: {NOT_ACTIVE.format(role=role)}"


def _says_nothing(match: MatchEntry) -> bool:
    return all(getattr(match, field) is None for field in type(match).model_fields)
