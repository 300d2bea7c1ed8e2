"""The one tag that an app declares: what of a call's tags its spend is booked by as well."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from conftest import SHARDS, Provider, Reply, answer, endpoint, serving

from router.beliefs.tag_names import TagNames
from router.config.compiled import App, compile_text
from router.dialects.request import BodyHints, Declared
from router.errors import ConfigError
from router.policy.hints import read_hints
from router.policy.spend_tags import SpendTag, spend_tag_of
from telemetry import decoding, frames, keys
from telemetry.digests import spend_tag_digest
from telemetry.store import Address, connect
from telemetry.tag_names import tell_tags


def app(**said: Any) -> App:
    value = {
        "endpoints": [{"id": "a", "model": "m", "base_url": "http://h/v1"}],
        "apps": {"default": {}, "desk": {"spend_tag": "matter", **said}},
    }
    return compile_text(yaml.safe_dump(value), file="t.yaml").apps["desk"]


DESK = app()


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (None, ""),
        ("matter=4711, team=blue", "4711"),
        (" team = blue ,matter= a b=c ,", "a b=c"),
        ("matter=Müller", "Müller"),
        ({"matter": 4711, "team": "blue"}, "4711"),
        ({"matter": "4711"}, "4711"),
        ("team=blue", ""),
        ("Matter=4711", ""),
        ({"matter": None}, ""),
    ],
)
def test_the_declared_tag_is_found_in_header_and_body_and_no_other_one(
    said: Any, value: str
) -> None:
    found = spend_tag_of(DESK, said)

    assert found.warning is None
    assert found.name == (f"matter={value}" if value else "")
    assert found.digest == (spend_tag_digest("desk", "matter", value) if value else 0)


def test_of_two_values_of_the_declared_tag_the_first_counts_and_that_is_said() -> None:
    found = spend_tag_of(DESK, "matter=a, team=x, matter=b")
    alike = spend_tag_of(DESK, "matter=a, matter=a")

    assert (found.name, found.digest) == ("matter=a", spend_tag_digest("desk", "matter", "a"))
    assert found.warning == "tag matter is there 2 times; booked under the first"
    assert (alike.name, alike.warning) == ("matter=a", None)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ("4711", "write key=value"),
        ("matter=", "tag matter is empty"),
        ("matter=" + "x" * 129, "129 characters, more than 128"),
        ("matter=a\x07b", "must be printable"),
        (",".join(f"t{n}=1" for n in range(17)), "names 17 tags, more than 16"),
        ("x" * 4097, "more than 4096"),
        ({f"t{n}": 1 for n in range(17)}, "names 17 tags, more than 16"),
        ({"matter": 4.5}, "tags.matter is 4.5, no whole number"),
        ({"matter": ["a"]}, "tags.matter is"),
        (["matter"], "it must be an object"),
    ],
)
def test_what_cannot_be_a_tag_is_told_and_counts_as_none(said: Any, says: str) -> None:
    found = spend_tag_of(DESK, said)

    assert (found.digest, found.name) == (0, "")
    assert says in (found.warning or "")
    assert (found.warning or "").endswith("; booked under no tag")


def test_tags_of_the_header_go_before_those_of_the_body() -> None:
    body = Declared(BodyHints(tags={"matter": "body"}))

    assert read_hints({}, body).tags == {"matter": "body"}
    assert read_hints({b"x-router-tags": b"matter=header"}, body).tags == "matter=header"


def test_an_app_goes_by_the_organisations_key_where_it_declares_none() -> None:
    value = {
        "endpoints": [{"id": "a", "model": "m", "base_url": "http://h/v1"}],
        "organisation": {"spend_tag": "client"},
        "apps": {"default": {}, "desk": {"spend_tag": "matter"}},
    }
    apps = compile_text(yaml.safe_dump(value), file="t.yaml").apps

    assert {name: one.spend_tag for name, one in apps.items()} == {
        "desk": "matter",
        "default": "client",
    }
    with pytest.raises(ConfigError):
        app(spend_tag="no key=")


def test_names_of_tags_are_told_once_and_no_more_than_the_store_keeps(
    address: Address,
) -> None:
    client, names = connect(address), TagNames(most=3)
    client.delete(keys.TAG_NAMES)
    client.hset(keys.TAG_NAMES, f"{1:016x}", "matter=first")
    for digest in (0, 1, 2, 2, 3, 4):
        names.note(SpendTag(digest, f"matter={digest}"))

    names.tell(client)
    assert client.hgetall(keys.TAG_NAMES) == {
        **{b"%016x" % 1: b"matter=first", b"%016x" % 2: b"matter=2"},
        b"%016x" % 3: b"matter=3",  # one that is there takes no room
    }
    for digest in (3, 5):  # of another process, or of this one's next life
        again = TagNames(most=3)
        again.note(SpendTag(digest, "matter=other"))
        again.tell(client)
    assert client.hlen(keys.TAG_NAMES) == 3
    assert client.hget(keys.TAG_NAMES, f"{3:016x}") == b"matter=3"
    client.close()


def test_room_for_names_of_tags_is_counted_where_it_is_taken(
    store: object, address: Address
) -> None:
    """Eight processes tell at the same time, each of tags of its own."""
    assert store
    clients = [connect(address) for _ in range(8)]
    ready = threading.Barrier(8)

    def tell(number: int) -> None:
        told = {1 + number * 500 + i: f"matter={i}" for i in range(500)}
        ready.wait()
        tell_tags(clients[number], told, most=900)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))

    assert clients[0].hlen(keys.TAG_NAMES) == 900
    for client in clients:
        client.close()


def test_every_attempt_carries_its_declared_tag_whoever_decides_or_dispatched_it(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    provider.on("p", Reply(body=answer()))
    value: dict[str, Any] = {
        "endpoints": [endpoint(provider, "a")],
        "providers": {"prov": {"base_url": provider.url("p"), "passthrough": True}},
        "apps": {"default": {"spend_tag": "matter"}},
    }
    told = {"endpoint": "a", "tags": {"matter": "told", "team": "blue"}, "user": "ann"}
    outcome = {"specversion": "1.0", "id": "1", "source": "t", "type": "pointsman.outcome.v1"}
    batch = {"content-type": "application/cloudevents-batch+json"}
    with serving(value, state_dir, address) as sidecar:
        both = {"x-router-tags": "matter=4711, team=blue"}
        assert "x-router-warning" not in sidecar.chat("a", headers=both).headers
        sidecar.chat("a", router={"tags": {"matter": "4711"}})
        sidecar.chat("gpt-9", headers={"x-router-tags": "matter=passed"})
        wrong = {"x-router-tags": "matter"}
        for model in ("a", "gpt-9"):
            got = sidecar.chat(model, headers=wrong)
            assert got.status_code == 200
            assert "booked under no tag" in got.headers["x-router-warning"]
        body = json.dumps([{**outcome, "data": told}])
        assert sidecar.http.post("/v1/events", content=body, headers=batch).status_code == 202
        sidecar.until(lambda: sidecar.app.writer.counters.sent >= 6)
        client = connect(address)
        sidecar.until(lambda: client.hlen(keys.TAG_NAMES) == 3)
        names = {int(digest, 16): name for digest, name in client.hgetall(keys.TAG_NAMES).items()}
        found = [
            decoding.decode(frames.unpack(entry[b"f"]).body)[0]
            for shard in range(SHARDS)
            for _, entry in client.xrange(keys.stream(shard))
        ]
        client.close()

    records = np.concatenate(found)
    tags = sorted(names.get(int(tag), b"") for tag in records["spend_tag"])
    assert tags == [b"", b"", b"matter=4711", b"matter=4711", b"matter=passed", b"matter=told"]
    assert {call.headers.get("x-router-tags") for call in provider.calls} == {None}
    assert not any(b"tags" in call.body for call in provider.calls)
    assert (records["token"]["user"] != 0).sum() == 1  # the event's
