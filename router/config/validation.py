"""Whether the tree in a file has the shape of a configuration; every error is told at once."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from router.config.entries import File
from router.config.lines import Findings, Spots
from router.config.masking import (
    HIDDEN,
    NO_KEY_HERE,
    SAID_BY_KEYS,
    Place,
    is_secret_place,
    no_key_at,
    shown_part,
    shown_value,
)
from router.config.named import did_you_mean
from router.config.repairs import is_below, take_out
from router.config.spelling import fields_at, respell
from router.config.tree import Tree
from router.config.unmeant import find_unmeant

MAX_ROUNDS = 16
"""Of taking wrong values out; each round finds all errors of one depth, and ten are the most."""
TEXT_WANTED = ("string_type", "path_type")
PLAIN_HINTS = {
    "model_type": "a mapping belongs here: fields with their values",
    "model_attributes_type": "a mapping belongs here: fields with their values",
    "dict_type": "a mapping belongs here: names with their entries",
    "list_type": "a list belongs here: [a, b]",
    "string_type": "a text belongs here; put it in quotes",
    "too_short": "the list is empty; name what belongs in it, or leave out what may be",
}
LIKE_A_KEY = re.compile(r"(?i)key|token|secret|password|bearer|credential")
"""Names under which a key may stand beside `auth`, as other programs have it."""
NOTHING = "write a value, or leave the field out"


def validate(tree: Tree) -> tuple[File | None, set[Place]]:
    """Return the entries, and the places that had to be left out so that the rest can be checked.

    What is wrong in shape is noted and taken out, and the rest is tried again: so a user meets
    every problem in one round, not one layer of them after the other.
    """
    respelt = respell(tree, File)
    findings, spots = tree.findings, tree.findings.spots
    repaired = set(tree.refused)
    for where, value, hint in find_unmeant(spots):
        if not is_below(where, repaired):
            findings.add(where, value, hint, told=shown_part(where))
            repaired.add(where)
            if "params" in where:  # else the whole of them is no JSON
                take_out(tree.root, where)
    root = {key: value for key, value in tree.root.items() if value is not None}
    for _ in range(MAX_ROUNDS):
        try:
            return File.model_validate(root), repaired
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
        if _take_as_text(root, details, spots):
            continue
        wrong = _places(details, spots)
        for where, detail in wrong.items():
            is_rest = _is_a_rest(where, detail, repaired) or _follows(where, detail, repaired)
            if not (is_below(where, repaired) or where in respelt or is_rest):
                _explain(where, detail, findings)
        goes = {where: _what_goes(where, detail) for where, detail in wrong.items()}
        repaired |= wrong.keys() | {place for place in goes.values() if place}
        if not all([_take_out(root, goes[where], detail) for where, detail in wrong.items()]):
            return None, repaired
    return None, repaired


def _follows(where: Place, detail: Any, repaired: set[Place]) -> bool:
    """Return whether a whole is wrong, or missing, that lacks what was taken out of it."""
    is_of_whole = detail["type"] in ("value_error", "missing")
    return is_of_whole and any(place[: len(where)] == where for place in repaired)


def _take_as_text(root: Any, details: list[Any], spots: Spots) -> bool:
    """Put the text as it is written where a text is wanted and a number was read.

    So `model: 4.10` is the model 4.10, and no other than `model: "4.10"`.
    """
    n_taken = 0
    for detail in details:
        value = detail["input"]
        if detail["type"] not in TEXT_WANTED or type(value) not in (int, float):
            continue
        *parents, last = where = _place(detail, spots)
        text, node = spots[where].text, root
        for part in parents:
            node = node[part]
        if text is not None and type(node[last]) is type(value):
            node[last] = text
            n_taken += 1
    return n_taken > 0


def _places(details: list[Any], spots: Spots) -> dict[Place, Any]:
    """Return each place that is wrong with its first error.

    Of a field that may be one thing or another, what is wrong inside says more than that it is
    not the other.
    """
    wrong: dict[Place, Any] = {}
    for detail in details:
        where = _place(detail, spots)
        wrong.setdefault(where, detail)
    outer = {where[:n] for where in wrong for n in range(len(where))}
    return {
        where: detail
        for where, detail in wrong.items()
        if where not in outer or not detail["type"].endswith("_type")
    }


def _is_a_rest(where: Place, detail: Any, repaired: set[Place]) -> bool:
    """Return whether a place is a way to sign in of which a part was wrong: the rest is none.

    What stands beside a caller's key is no part of a source, for which the rest is taken.
    """
    if detail["type"] == "extra_forbidden" and (*where[:-1], "key") in repaired:
        return True
    return is_secret_place(where) and any(is_below(part, {where}) for part in repaired)


def _what_goes(where: Place, detail: Any) -> Place:
    """Return what is left out for an error: with a part that it must have, the whole."""
    must_be_there = where == ("endpoints",) or where[-1:] in (("id",), ("model",))
    return where[:-1] if detail["type"] == "missing" and not must_be_there else where


def _take_out(root: Any, where: Place, detail: Any) -> bool:
    return take_out(root, where, is_name=detail["loc"][-1:] == ("[key]",))


def _explain(where: Place, detail: Any, findings: Findings) -> None:
    """Note a validation error as a problem; parts of a path that pydantic made up go."""
    kind = detail["type"]
    if is_secret_place(where) and kind != "missing":
        _explain_secret(where, detail, findings)
        return
    if kind == "missing":
        findings.add(where, "missing", "this field is required", told=shown_part(where))
        return
    if kind == "extra_forbidden":
        known = fields_at(where[:-1], File)
        hint = f"unknown key{did_you_mean(str(where[-1]), known)}"
        if "auth" in known and LIKE_A_KEY.search(str(where[-1])):
            hint = f"unknown key; write auth: {{env: NAME}}; {NO_KEY_HERE}"
        findings.add(where, str(where[-1]), hint)
        return
    if detail["loc"][-1] == "[key]":
        value = str(where[-1])
    else:
        value = shown_value(where, findings.spots[where].shown) if where else "the file"
    message = str(detail["msg"]).removeprefix("Value error, ")
    nothing = detail["input"] is None
    findings.add(where, value, NOTHING if nothing else PLAIN_HINTS.get(kind, message))


def _explain_secret(where: Place, detail: Any, findings: Findings) -> None:
    """Note an error where a key may stand by mistake: field and fix, and no value."""
    hint = no_key_at(where)
    if detail["type"] in ("literal_key", "no_digest"):
        hint = detail["msg"]
    elif detail["type"] == "extra_forbidden" and where[-1] == "sha256":
        hint = "write the digest as one word, without a space: sha256:…"
    elif detail["type"] == "extra_forbidden" and where[-1] in SAID_BY_KEYS:
        hint = f"write key: before the source: {{key: {{env: NAME}}, {where[-1]}: …}}"
    elif detail["type"] == "extra_forbidden":
        hint = f"unknown key; {hint}"
    elif detail["type"] == "list_type":
        hint = f"a list belongs here, such as keys: [{{env: NAME}}]; {hint}"
    elif detail["type"] in ("value_error", "string_pattern_mismatch"):  # they hold no value
        hint = f"{str(detail['msg']).removeprefix('Value error, ')}; {hint}"
    if where[-1] == "auth":
        hint += ", or write client or none"
    findings.add(where, HIDDEN, hint, told=shown_part(where))


def _place(detail: Any, spots: Spots) -> Place:
    """Return where an error stands in the file; parts that pydantic made up are left out."""
    where: Place = ()
    *outer, last = detail["loc"] or ("",)
    is_missing = detail["type"] == "missing"
    for part in outer if is_missing else detail["loc"]:
        if (*where, part) in spots:
            where = (*where, part)
    return (*where, last) if is_missing else where
