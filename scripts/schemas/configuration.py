"""The configuration file, from the entries that read it and the sentence below each field."""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

from pydantic import BaseModel

from router.config.entries import File
from router.endpoints.entry import Entry
from scripts.schemas.shapes import Schema


def configuration() -> Schema:
    """Return the schema of a configuration file, every field with its sentence.

    Raises:
        ValueError: an entry has a field without one.
    """
    schema = File.model_json_schema()
    by_name = {model.__name__: model for model in entries(File)}
    for name, part in {**schema.pop("$defs"), File.__name__: schema}.items():
        if name in by_name:
            _describe(part, by_name[name])
        elif "description" in part:
            part["description"] = _first_line(part["description"])
        schema.setdefault("$defs", {})[name] = part
    whole = schema["$defs"].pop(File.__name__)
    untitled: Schema = _without_titles({**whole, "$defs": schema["$defs"]})
    return {"title": "Configuration", **untitled}


def entries(model: type[Entry]) -> list[type[Entry]]:
    """Return an entry and all those inside it, each once, in the order of its fields."""
    found = {model: None}
    for field in model.model_fields.values():
        for inner in _inside(field.annotation):
            found |= dict.fromkeys(entries(inner))
    return list(found)


def _inside(annotation: Any) -> list[type[Entry]]:
    if isinstance(annotation, type) and issubclass(annotation, Entry):
        return [annotation]
    return [entry for part in getattr(annotation, "__args__", ()) for entry in _inside(part)]


def _describe(part: Schema, model: type[Entry]) -> None:
    part["description"] = _first_line(model.__doc__ or "")
    for name, field in model.model_fields.items():
        said = part["properties"][field.alias or name]
        said["description"] = sentence(model, name)
        if isinstance(said.get("default"), dict):  # its fields have theirs where they are listed
            del said["default"]


def sentence(model: type[BaseModel], field: str) -> str:
    """Return what stands below a field, in the class that declares it.

    Raises:
        ValueError: nothing stands there.
    """
    for owner in model.__mro__:
        if field in vars(owner).get("__annotations__", {}):
            said = _said(owner).get(field)
            if said is not None:
                return said
            raise ValueError(f"{owner.__qualname__}.{field} has no sentence; write one below it")
    raise ValueError(f"{model.__qualname__} has no field {field}")


@cache
def _said(owner: type) -> dict[str, str]:
    """Return the texts that stand right below fields, each in one line."""
    (declared,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(declared, ast.ClassDef)
    found = {}
    for field, below in zip(declared.body, declared.body[1:], strict=False):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                found[name] = " ".join(text.split())
    return found


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]


def _without_titles(value: Any) -> Any:
    """Return a schema without the titles that pydantic makes of names."""
    if isinstance(value, list):
        return [_without_titles(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_titles(each)
        for key, each in value.items()
        if not (key == "title" and isinstance(each, str))
    }
