"""Random configurations for the proof of the policy: levels with rules, endpoints with terms."""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Any

Entry = dict[str, Any]

REGIONS = ("eu", "us")
LAWS = ("DE", "US")
ZONES = ("local", "vendor", "leased")
CAPABILITIES = ("tools", "images", "reasoning", "prompt_cache")
CLASSES = ("public", "internal", "client", "confidential", "restricted")
DIALECTS = ("chat", "messages", "responses")
STRATEGIES = ("s0", "s1")
TASKS = ("t0", "t1", "t1/leaf")
ROLES = ("r0", "r1", "idle")
USERS = ("u0", "u1")
APPS = ("a0", "a1", "a2")
TOOLS = ("read", "write")
LAST_DAY, LONG_AGO, FAR_OFF = "2026-03-02", "2026-03-01", "2027-01-01"
"""Days on which agreements end: with the day of the proof, before it, after it."""
RULED = 0.03
"""How often a level says something of a field."""


def configuration(random: Random) -> Entry:
    """Return a configuration; not every one is sound."""
    own_classes = random.random() < 0.3
    classes = [name for name in CLASSES if own_classes or name != "client"]
    providers = {name: _provider(random, classes) for name in ("p0", "p1")}
    providers["p0"]["passthrough"] = True
    if random.random() < 0.3:
        providers["p1"]["passthrough"] = {"dialects": ["messages"]}
    if random.random() < 0.5:
        providers["p0"]["passthrough_state"] = "shared"
    n = random.randint(3, 8)
    endpoints = [_endpoint(random, i, classes) for i in range(n)]
    names = ["p0", "p1", "e*", *(e["id"] for e in endpoints)]
    out: Entry = {
        "classes": classes,
        "providers": providers,
        "endpoints": endpoints,
        "organisation": _preferences(random, classes, names) if random.random() < 0.4 else {},
        "tasks": {name: _preferences(random, classes, names) for name in TASKS},
        "roles": {name: _role(random, name, classes, names) for name in ROLES},
        "strategies": {name: _strategy(random, classes, names) for name in STRATEGIES},
        "users": {name: _user(random, name, classes, names) for name in USERS},
        "apps": {name: _app(random, name, classes, names, n) for name in APPS},
    }
    return out


def rules(random: Random, classes: list[str], names: list[str], share: float = RULED) -> Entry:
    """Return what a level says of hard fields: now and then something of each."""
    choices: Entry = {
        "data_class": lambda: random.choice(classes),
        "regions": lambda: random.sample(REGIONS, random.randint(1, 2)),
        "jurisdictions": lambda: random.sample(LAWS, random.randint(1, 2)),
        "zones": lambda: random.sample(ZONES, random.randint(1, 3)),
        "max_retention_days": lambda: random.choice((0, 7, 30)),
        "no_training": lambda: random.random() < 0.8,
        "keep_nothing": lambda: random.random() < 0.8,
        "private": lambda: random.random() < 0.7,
        "endpoints": lambda: _lists(random, names),
        "require": lambda: random.sample(CAPABILITIES, 1),
        "forbid": lambda: random.sample(CAPABILITIES, 1),
        "tools": lambda: random.sample(("read", "w*"), random.randint(0, 2)),
        "max_cost_usd": lambda: random.choice((0.0001, 0.01, 1.0)),
        "max_latency_ms": lambda: random.choice((2_000, 60_000)),
        "stakes": lambda: "high",
        "explore": lambda: random.random() < 0.3,
    }
    return {field: choose() for field, choose in choices.items() if random.random() < share}


def _lists(random: Random, names: list[str]) -> Any:
    chosen = random.sample(names, random.randint(1, min(3, len(names))))
    if random.random() < 0.5:
        return chosen
    allow = {"allow": random.sample(names, 2)} if random.random() < 0.5 else {}
    return {"deny": chosen[:1], **allow}


def _preferences(random: Random, classes: list[str], names: list[str]) -> Entry:
    out = rules(random, classes, names)
    if random.random() < 0.2:
        out["strategy"] = random.choice((*STRATEGIES, "quality", "cheapest"))
    if random.random() < 0.1:
        out["prefer"] = random.sample(CAPABILITIES, 1)
    return out


def _role(random: Random, name: str, classes: list[str], names: list[str]) -> Entry:
    out = _preferences(random, classes, names)
    out["tasks"] = random.sample(TASKS, random.randint(0, 2))
    if name == "r1":
        out["callers"] = ["m1", "unlisted-x"]
    if name == "idle":
        out["active"] = False
    return out


def _strategy(random: Random, classes: list[str], names: list[str]) -> Entry:
    out = rules(random, classes, names)
    out["objective"] = random.choice(("quality", "cheapest", "fastest"))
    if random.random() < 0.3:
        out["incumbent"] = "none"
    return out


def _user(random: Random, name: str, classes: list[str], names: list[str]) -> Entry:
    out = _preferences(random, classes, names)
    if name == "u0":
        out |= {"app": random.choice(APPS), "keys": [hashed("key-u0")]}
    return out


def _app(random: Random, name: str, classes: list[str], names: list[str], n: int) -> Entry:
    out = _preferences(random, classes, names)
    held: Entry = {"key": hashed(f"held-{name}")}
    for field, values in (("role", ROLES[:2]), ("task", TASKS), ("user", USERS)):
        if random.random() < 0.4:
            held[field] = random.choice(values)
    if random.random() < 0.4:
        held["data_class"] = random.choice(classes)
    out |= {"keys": [hashed(f"key-{name}"), held]}
    out["mode"] = random.choice(("observe", "route", "route", "pinned"))
    if out["mode"] == "pinned":
        out["endpoint"] = f"e{random.randrange(n)}"
    maybe: Entry = {
        "percent": 50,
        "map_models": True,
        "fallback": random.choice(("none", "group", "any", "any")),
        "users": "required",
        "task": random.choice(TASKS),
        "strategies": {random.choice(TASKS): random.choice(STRATEGIES)},
        "stream": "buffered",
        "unit": "call",
    }
    return out | {field: value for field, value in maybe.items() if random.random() < 0.25}


def _terms(random: Random, classes: list[str]) -> Entry:
    maybe: Entry = {
        "region": random.choice(REGIONS),
        "jurisdiction": random.choice(LAWS),
        "zone": random.choice(ZONES),
        "retention_days": random.choice((0, 0, 7, 30)),
        "trains_on_data": random.random() < 0.4,
        "max_data_class": random.choice((*classes[1:], "restricted", "restricted")),
    }
    out = {field: value for field, value in maybe.items() if random.random() < 0.8}
    if random.random() < 0.4:
        out["agreement"] = {"until": random.choice((LONG_AGO, LAST_DAY, LAST_DAY, FAR_OFF))}
    return out


def _provider(random: Random, classes: list[str]) -> Entry:
    return _terms(random, classes)


def _endpoint(random: Random, index: int, classes: list[str]) -> Entry:
    out: Entry = {"id": f"e{index}", "model": f"m{random.randrange(3)}", **_terms(random, classes)}
    if random.random() < 0.4:
        out["provider"] = random.choice(("p0", "p1"))
    out["dialects"] = random.sample(DIALECTS, random.randint(1, 3))
    if "chat" in out["dialects"] and "messages" not in out["dialects"]:
        out["translate"] = {"from": ["messages"]}
    if random.random() < 0.5:
        out["capabilities"] = {one: random.random() < 0.7 for one in random.sample(CAPABILITIES, 2)}
    if random.random() < 0.8:
        usd = random.choice((0.1, 10))
        out["prices"] = {"input_usd_per_mtok": usd, "output_usd_per_mtok": 4 * usd}
    if random.random() < 0.1:
        out["params"] = {"store": random.random() < 0.5}
    out["timeouts"] = {"beside_s": {"first_token": 0.01, "answer": 0.01}, "stall_s": 2}
    return out


def hashed(key: str) -> str:
    """Return a key as a configuration holds it."""
    return f"sha256:{sha256(key.encode()).hexdigest()}"


def addressed(written: Entry) -> Entry:
    """Return a configuration with addresses: each endpoint and provider has a host of its own."""
    out = {**written, "providers": {}, "endpoints": []}
    for name, provider in written["providers"].items():
        out["providers"][name] = {"base_url": f"http://{name}.test/v1", **provider}
    for endpoint in written["endpoints"]:
        out["endpoints"].append({"base_url": f"http://{endpoint['id']}.test/v1", **endpoint})
    return out
