"""In which role a call comes: named by it, carried by its key, or meant by its model's name."""

from __future__ import annotations

from fnmatch import fnmatchcase

from msgspec import Struct

from router.config.compiled import Configuration, KeyHolder, Role
from router.errors import RequestRejected
from telemetry.numbers import brief


class CallersRole(Struct, frozen=True):
    """The role of a call, and whether the model that it names stands for it."""

    role: Role | None = None
    by_model: bool = False


NO_ROLE = CallersRole()


def find_role(
    configuration: Configuration, model: str, named: str | None, holder: KeyHolder | None
) -> CallersRole:
    """Return the role of a call.

    Args:
        model: the `model` field, where that names no role itself.
        named: by the `model` field or a hint.
        holder: whose key it came with.

    Raises:
        RequestRejected: no such role, or it is not active; it may hold constraints, so it is not
            guessed.
    """
    roles = configuration.roles
    if named is not None:
        return CallersRole(_active(roles, named))
    if holder is not None and holder.role is not None:
        return CallersRole(_active(roles, holder.role))
    for role in roles.values():
        if role.entry.active and any(fnmatchcase(model, one) for one in role.entry.callers):
            return CallersRole(role, by_model=True)
    return NO_ROLE


def _active(roles: dict[str, Role], name: str) -> Role:
    known = ", ".join(sorted(name for name, role in roles.items() if role.entry.active))
    role = roles.get(name)
    if role is None:
        message = f"unknown role {brief(name)}; known: {known or 'none, add it to roles'}"
        raise RequestRejected("unknown_role", message, param="role")
    if not role.entry.active:
        message = f"the role {brief(name)} is not active; active: {known or 'none'}"
        raise RequestRejected("unknown_role", message, param="role")
    return role
