"""What the rules of a configuration permit, worked out anew from what `docs/` says of them.

Nothing here is the router's: neither its parser, nor its merge, nor its constraints. It reads the
configuration as it was written, asks each level by itself, and puts nothing together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from typing import Any

from scripts.proofs.policy_calls import FaultyCall

Rules = dict[str, Any]
INTERNAL, CONFIDENTIAL = "internal", "confidential"
KEEPING = ("web_search", "mcp", "code_interpreter", "image_generation")
READING = ("chat/completions", "messages", "responses", "embeddings", "moderations", "count_tokens")
"""What ends a path to which a POST keeps nothing by itself."""
FLAGS = ("no_training", "keep_nothing", "private")


@dataclass(frozen=True, slots=True)
class Sentence:
    """What one level says."""

    level: str
    rules: Rules


class PolicyOracle:
    """Knows what one configuration permits."""

    def __init__(self, written: Rules) -> None:
        self.written = written
        self.classes: list[str] = written["classes"]
        self.endpoints = {one["id"]: one for one in written["endpoints"]}
        self.holders = dict(self._holders())

    def level_of(self, name: str) -> int:
        """Return how sensitive a class is."""
        return self.classes.index(name)

    def _holders(self) -> Iterator[tuple[str, Rules]]:
        for name, app in self.written["apps"].items():
            for key in app["keys"]:
                held = key if isinstance(key, dict) else {"key": key}
                yield held["key"], {**held, "app": name}
        for name, user in self.written["users"].items():
            for key in user.get("keys", ()):
                yield key, {"app": user["app"], "user": name}

    def places(self, patterns: list[str]) -> set[str]:
        """Return whom names mean: endpoints by id, providers as `<name>/`."""
        out = set()
        for pattern in patterns:
            for id_, endpoint in self.endpoints.items():
                names = (id_, endpoint.get("provider"))
                if any(name is not None and fnmatchcase(name, pattern) for name in names):
                    out.add(id_)
            for name in self.written["providers"]:
                if fnmatchcase(name, pattern):
                    out.add(f"{name}/")
        return out

    def terms(self, place: str) -> Rules:
        """Return what is said of an endpoint or provider, the provider's word behind its own."""
        if place.endswith("/"):
            return dict(self.written["providers"][place[:-1]])
        own = self.endpoints[place]
        return {**self.written["providers"].get(own.get("provider"), {}), **own}


def _with_above(task: str) -> tuple[str, ...]:
    """Return a task, and what it is part of."""
    return (task, task.partition("/")[0])


class CallOracle:
    """Knows what is permitted of one call."""

    def __init__(self, oracle: PolicyOracle, call: FaultyCall, *, is_off: bool) -> None:
        self.oracle, self.call, self._is_off = oracle, call, is_off
        written = oracle.written
        self.holder = oracle.holders[f"sha256:{sha256(call.key.encode()).hexdigest()}"]
        self.app = written["apps"][self.holder["app"]]
        self.model: str = call.body.get("model", "")
        self.is_muted = (
            self._hint("role") == "idle"
            or self._hint("strategy") == "nothing"
            or self._hint("data_class") == "secret"
        )

    def _hint(self, name: str) -> Any:
        header = self.call.headers.get(f"x-router-{name.replace('_', '-')}")
        return header if header is not None else self.call.body.get("router", {}).get(name)

    @cached_property
    def role(self) -> str | None:
        """The role that is named, carried by the key, or meant by the model's name."""
        named = self._hint("role")
        if named is None and self.model.startswith("role:"):
            named = self.model.removeprefix("role:")
        if named is None:
            named = self.holder.get("role")
        return str(named) if named is not None else self._callers_role

    @cached_property
    def _callers_role(self) -> str | None:
        """The role that the model's name means, if any."""
        for name, role in self.oracle.written["roles"].items():
            if role.get("active", True) and self.model in role.get("callers", ()):
                return str(name)
        return None

    @cached_property
    def binding_role(self) -> str | None:
        """The role whose rules hold: one that a model's name means does where that is routed."""
        return self.role if self._is_named else self._routed_role

    @property
    def _is_named(self) -> bool:
        named = self._hint("role") is not None or self.model.startswith("role:")
        return named or self.holder.get("role") is not None

    @property
    def _routed_role(self) -> str | None:
        end = self.call.path.removesuffix("/count_tokens").rpartition("/")[2]
        dialect = "chat" if end == "completions" else end
        takers = [
            one
            for one in self.oracle.endpoints.values()
            if dialect in one.get("dialects", ["chat"])
            or dialect in one.get("translate", {}).get("from", ())
        ]
        models = {name for one in takers for name in (one["model"], one.get("upstream_model"))}
        is_routed = self.app.get("mode") == "route" and not self._is_off
        return self._callers_role if is_routed and self.model in models else None

    @property
    def usual_role(self) -> str | None:
        """The role that the call would have without hints."""
        carried = self.holder.get("role")
        return str(carried) if carried is not None else self._routed_role

    def _task(self, hint: str | None, role_name: str | None) -> str:
        role = self.oracle.written["roles"].get(role_name or "", {})
        said = (
            hint,
            next(iter(role.get("tasks", ())), None),
            self.holder.get("task"),
            self.app.get("task"),
        )
        return str(next((name for name in said if name is not None), "general"))

    @cached_property
    def task(self) -> str:
        """The task: as the call says, its role, its key, its app; else general."""
        return self._task(self._hint("task"), self.binding_role)

    @cached_property
    def usual_task(self) -> str:
        """The task that the call would have without hints."""
        return self._task(None, self.usual_role)

    @cached_property
    def users(self) -> list[str]:
        """The users whose rules hold."""
        known = self.oracle.written["users"]
        named = (self.holder.get("user"), self._hint("user"))
        found = [name for name in dict.fromkeys(named) if name in known]
        if not found and self.app.get("users") == "required":
            return list(known)
        return found

    @cached_property
    def strategy(self) -> str:
        """The strategy: the first that is set along the levels."""
        return self._strategy(self._hint("strategy"), self.binding_role, self.task)

    @cached_property
    def usual_strategy(self) -> str:
        """The strategy that the call would have without hints."""
        return self._strategy(None, self.usual_role, self.usual_task)

    def _strategy(self, hint: str | None, role_name: str | None, task: str) -> str:
        written, tasks = self.oracle.written, _with_above(task)
        role, by_task = written["roles"].get(role_name or "", {}), self.app.get("strategies", {})
        said = [hint, role.get("strategy")]
        said += [by_task.get(name) for name in tasks]
        said += [written["tasks"].get(name, {}).get("strategy") for name in tasks]
        said.append(self.app.get("strategy"))
        if self.has_named_user:
            said += [written["users"][name].get("strategy") for name in self.users]
        said.append(written["organisation"].get("strategy"))
        return str(next((name for name in said if name is not None), "quality"))

    @property
    def has_named_user(self) -> bool:
        """Whether the users are the call's own, and not all for want of any."""
        return bool({self.holder.get("user"), self._hint("user")} & set(self.users))

    @cached_property
    def said(self) -> list[Sentence]:
        """Everything that any level says of the call; all of it holds."""
        written, holder = self.oracle.written, self.holder
        names = ("data_class", "max_cost_usd", "max_latency_ms")
        own = {n: v for n in names if (v := self._hint(n)) is not None}
        if self._hint("explore") in (False, "0"):
            own["explore"] = False
        out = [Sentence("request", own)]
        if "data_class" in holder:
            out.append(Sentence("key", {"data_class": holder["data_class"]}))
        roles = dict.fromkeys((self.binding_role, self.usual_role))
        out += [Sentence("role", written["roles"].get(name or "", {})) for name in roles]
        tasks = dict.fromkeys((*_with_above(self.task), *_with_above(self.usual_task)))
        out += [Sentence("task", written["tasks"].get(name, {})) for name in tasks]
        out.append(Sentence("app", self.app))
        out += [Sentence("user", written["users"][name]) for name in self.users]
        out.append(Sentence("organisation", written["organisation"]))
        strategies = dict.fromkeys((self.strategy, self.usual_strategy))
        out += [Sentence("strategy", written["strategies"].get(name, {})) for name in strategies]
        if "data_class" not in self.app and "data_class" not in written["organisation"]:
            out.append(Sentence("built_in", {"data_class": INTERNAL}))
        return [one for one in out if one.rules]

    def forbids(self, place: str, path: str, body: Rules, at_s: float) -> str | None:
        """Return why no byte of the call may reach a place at a moment; None: it may.

        Args:
            place: an endpoint's id, or `<provider>/`.
            path, body: as they came there.
        """
        if self.is_muted:
            return "a hint that nobody can follow"
        at = _Place(self.oracle, place, at_s)
        for one in self.said:
            why = at.breaks(one.rules) or self._breaks_as_call(at, one.rules)
            if why is not None:
                return f"{one.level}: {why}"
        if at.zone != "local" and self.keeps_nothing and (kept := _kept(self.call, path, body)):
            return f"keeps {kept}"
        return None

    @cached_property
    def keeps_nothing(self) -> bool:
        """Whether nothing of the call may be kept or passed on."""
        level = self.oracle.level_of
        classes = [one.rules["data_class"] for one in self.said if "data_class" in one.rules]
        if max(map(level, classes)) >= level(CONFIDENTIAL):
            return True
        fields = ("keep_nothing", "private", "zones")
        return any(
            any(one.rules.get(field) for field in fields) or "max_retention_days" in one.rules
            for one in self.said
        )

    def _breaks_as_call(self, at: _Place, rules: Rules) -> str | None:
        if "tools" in rules:
            for name in _tools(self.call.body):
                if not any(fnmatchcase(name, pattern) for pattern in rules["tools"]):
                    return f"tool {name}"
        limits = (self.call.body.get(name) for name in ("max_tokens", "max_output_tokens"))
        most = next((limit for limit in limits if limit is not None), None)
        if "max_cost_usd" in rules and most is not None and not at.is_provider:
            prices = at.terms.get("prices")
            if prices is None:
                return "no price"
            if most * prices["output_usd_per_mtok"] / 1e6 > float(rules["max_cost_usd"]):
                return "cost"
        return None


class _Place:
    """An endpoint or provider, as it is at a moment."""

    def __init__(self, oracle: PolicyOracle, name: str, at_s: float) -> None:
        self.oracle, self.name, self.is_provider = oracle, name, name.endswith("/")
        self.terms = oracle.terms(name)
        until = self.terms.get("agreement", {}).get("until")
        today = datetime.fromtimestamp(at_s, UTC).date()
        self.has_lapsed = until is not None and today > date.fromisoformat(until)
        self.zone = None if self.has_lapsed else self.terms.get("zone")
        self.kept_days = None if self.has_lapsed else self.terms.get("retention_days")

    def breaks(self, rules: Rules) -> str | None:
        """Return what of rules it does not keep."""
        return self._breaks_list(rules) or self._breaks_terms(rules) or self._breaks_needs(rules)

    def _breaks_list(self, rules: Rules) -> str | None:
        lists = rules.get("endpoints")
        if isinstance(lists, list):
            lists = {"allow": lists}
        if not lists:
            return None
        if self.name in self.oracle.places(lists.get("deny", [])):
            return "denied"
        is_left_out = "allow" in lists and self.name not in self.oracle.places(lists["allow"])
        return "not allowed" if is_left_out else None

    def _breaks_terms(self, rules: Rules) -> str | None:
        level, terms = self.oracle.level_of, self.terms
        most = level(terms.get("max_data_class", INTERNAL))
        if self.has_lapsed:
            most = min(most, level(INTERNAL))
        if "data_class" in rules and level(rules["data_class"]) > most:
            return "data class"
        for field, own in (("regions", "region"), ("jurisdictions", "jurisdiction")):
            if field in rules and terms.get(own) not in rules[field]:
                return own
        if "zones" in rules and self.zone not in rules["zones"]:
            return "zone"
        most_days = rules.get("max_retention_days")
        if most_days is not None and (self.kept_days is None or self.kept_days > most_days):
            return "retention"
        if rules.get("no_training") and terms.get("trains_on_data") is not False:
            return "training"
        if rules.get("private") and self.zone != "local" and self.kept_days != 0:
            return "private"
        return None

    def _breaks_needs(self, rules: Rules) -> str | None:
        able = {} if self.is_provider else self.terms.get("capabilities", {})
        for one in rules.get("require", ()):
            if not able.get(one, True):
                return f"lacks {one}"
        for one in rules.get("forbid", ()):
            if able.get(one, True):
                return f"has {one}"
        return None


def _tools(body: Rules) -> Iterator[str]:
    for tool in body.get("tools", ()):
        yield tool.get("name") or tool.get("function", {}).get("name") or tool["type"]


def _kept(call: FaultyCall, path: str, body: Rules) -> str | None:
    """Return what a body that came to a place has it keep, or pass on."""
    stored = body.get("store")
    if stored is True or (path.endswith("/responses") and stored is not False):
        return "store"
    for tool in body.get("tools", ()):
        kind = str(tool.get("type", ""))
        if kind.startswith(KEEPING):
            return kind
    if call.method == "POST" and not path.endswith(READING):
        return path
    return None


def looser(said: list[Sentence], told: Rules, oracle: PolicyOracle) -> list[str]:
    """Return in which fields a merged policy permits what one of its levels does not.

    Args:
        told: the merged policy as a dry run shows it.
    """
    merged = {field: one["value"] for field, one in told.items()}
    out = []
    for one in said:
        for field, value in one.rules.items():
            if not _holds(field, value, merged, oracle):
                out.append(f"{one.level}: {field}: {value} in {merged}")
    return out


def _holds(field: str, value: Any, merged: Rules, oracle: PolicyOracle) -> bool:
    if field == "data_class":
        return oracle.level_of(merged[field]) >= oracle.level_of(value)
    if field in ("regions", "jurisdictions", "zones"):
        return field in merged and set(merged[field]) <= set(value)
    if field in FLAGS:
        return not value or merged.get(field) is True
    if field in ("require", "forbid"):
        return set(value) <= set(merged.get(field, ()))
    if field == "tools":
        return sorted(value) in merged.get(field, ())
    if field in ("stakes", "explore"):
        name = {"stakes": "high_stakes", "explore": "no_exploring"}[field]
        return value in ("normal", True) or merged.get(name) is True
    limits = {"max_retention_days": "retention_days"}
    limits |= {"max_cost_usd": "cost_usd", "max_latency_ms": "latency_ms"}
    if field in limits:
        return limits[field] in merged and merged[limits[field]] <= float(value)
    if field == "endpoints":
        lists = {"allow": value} if isinstance(value, list) else value
        denied = oracle.places(lists.get("deny", [])) <= set(merged.get("deny", ()))
        if "allow" not in lists:
            return denied
        allowed = "allow" in merged and set(merged["allow"]) <= oracle.places(lists["allow"])
        return denied and allowed
    return True
