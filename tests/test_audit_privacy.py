"""`pointsman audit privacy`: what is sensitive leaves on record or not at all, and is found."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, Reply, Sidecar, answer, endpoint, pointsman, serving, until
from dialects import speak

from router.config.compiled import compile_text
from router.config.hard import hard_constraints
from router.report.privacy import SILENT_MS, PrivacyAnswer, PrivacyQuestion
from router.report.privacy import answer as answered
from telemetry import journal, keys
from telemetry.embedded import PrivateServer
from telemetry.events import RECORD_SIZE
from telemetry.frames import Frame
from telemetry.store import Address
from telemetry.trail import Intent, IntentWay, TrailWord, pack_configuration
from telemetry.trail_content import TrailContent
from workers.archive.retention import Keep
from workers.jobs import jobs
from workers.jobs.jobs import Place

SECRET = {"x-router-data-class": "confidential"}
TOP_SECRET = {"x-router-data-class": "restricted"}
ALL = "restricted"


def value(provider: Provider, **more: Any) -> dict[str, Any]:
    passed = {
        "base_url": provider.url("p"),
        "passthrough": True,
        "max_data_class": ALL,
        "zone": "vendor",
    }
    return {
        "providers": {"p": passed},
        "endpoints": [
            endpoint(provider, "near", zone="local", max_data_class=ALL),
            endpoint(provider, "far", zone="vendor", max_data_class=ALL),
            endpoint(provider, "unsaid", max_data_class=ALL),
            endpoint(provider, "claude", zone="vendor", max_data_class=ALL, dialects=["messages"]),
        ],
        **more,
    }


def ask(
    file: Path, above: str = "internal", outside: str = "local", *more: str
) -> tuple[int, dict[str, Any]]:
    words = ("--above", above, "--outside", outside, *more)
    said = pointsman("audit", "privacy", *words, "--config", file, "--json")
    return said.exit_code, json.loads(said.stdout) if said.stdout else {"said": said.stderr}


@pytest.fixture
def file(state_dir: Path) -> Path:
    return state_dir / "pointsman.yaml"


@contextmanager
def _full_disk(sidecar: Sidecar, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """The journal's segment is full, and there is no room for the next."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = sidecar.app.writer._journal
    assert log is not None
    with patch.context() as inside:
        inside.setattr(journal, "_allocate", full)
        inside.setattr(journal, "FULL_REST_S", 0.0)
        inside.setattr(log, "segment_bytes", log._size + RECORD_SIZE - 1)
        yield


# -- found --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("store")  # the verb finds it by itself
def test_what_left_is_found_in_stream_and_files_and_what_stayed_is_not(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    provider.on("claude", speak)
    with serving(value(provider), state_dir, address, file=file) as sidecar:
        assert sidecar.chat("near", headers=TOP_SECRET).status_code == 200
        assert ask(file)[0] == 0, "what is local did not leave"
        assert sidecar.chat("far").status_code == 200
        assert ask(file)[0] == 0, "what is no more than internal is not asked about"
        decided = sidecar.chat("far", headers=SECRET)
        assert sidecar.chat("unlisted", headers=SECRET).status_code == 200
        counting = {"model": "claude", "messages": [{"role": "user", "content": "hi"}]}
        counted = sidecar.http.post("/v1/messages/count_tokens", json=counting, headers=TOP_SECRET)
        assert counted.status_code == 200
        assert sidecar.chat("unsaid", headers=SECRET).status_code == 200
        version = sidecar.app.keeper.current.configuration.version
        in_stream = ask(file)
        trail = Place(address, state_dir / "archive", SHARDS, Keep(0, 1 << 30), every_s=0)
        jobs.work_at(trail)
        until(lambda: _archive_all(trail))
        code, found = ask(file)

    assert decided.status_code == 200
    assert in_stream[0] == code == 1
    assert in_stream[1] | {"complete_until": "", "looked_at": [], "gaps": 0} == (
        found | {"complete_until": "", "looked_at": [], "gaps": 0}
    )
    rows = {(one["endpoint"], one["class"], one["zone"], one["way"]) for one in found["by"]}
    assert rows == {
        ("far", "confidential", "vendor", "call"),
        ("p/unlisted", "confidential", "vendor", "passed"),
        ("claude", "restricted", "vendor", "count"),
        ("unsaid", "confidential", None, "call"),
    }
    assert {one["app"] for one in found["by"]} == {"default"}
    assert {one["configuration"] for one in found["by"]} == {f"{version:016x}"}
    assert (found["calls"], found["recorded"], found["gaps"]) == (4, 5, 0)
    assert (found["complete"], found["of_unknown_configuration"]) == (True, 0)


def _archive_all(place: Place) -> bool:
    jobs.take()
    with_client = place.trail().client
    return with_client.xlen(keys.stream(SHARDS)) == 0 and with_client.exists(
        keys.trail_mark(SHARDS)
    )


@pytest.mark.usefixtures("store")
def test_the_class_that_is_named_is_not_above_itself_and_that_is_said(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    with serving(value(provider), state_dir, address, file=file) as sidecar:
        sidecar.chat("far", headers=SECRET)

        code, found = ask(file, "confidential")
        assert (code, found["calls"], found["calls_of_the_class_itself"]) == (0, 0, 1)
        sidecar.chat("far", headers=TOP_SECRET)
        assert ask(file, "confidential")[0] == 1
        assert ask(file, "confidential", "vendor")[0] == 0
        shown = pointsman(
            *("audit", "privacy", "--above", "internal", "--outside", "local", "--config", file)
        )

    assert shown.exit_code == 1
    assert shown.stdout.startswith("yes: 2 times something above internal left zone local")
    assert "1 × confidential, app default → far (zone vendor)" in shown.stdout


@pytest.mark.usefixtures("store")
def test_an_intent_is_there_although_the_sidecar_was_killed_before_the_outcome(
    provider: Provider, state_dir: Path, file: Path
) -> None:
    provider.on("far", Reply(delay_s=60, body=answer()))
    whole = value(provider, server={"port": 0, "state_dir": str(state_dir)})
    file.write_text(yaml.safe_dump({**whole, "store": {"shards": SHARDS}}))
    code = f"""
import sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import yaml
from conftest import serving
from telemetry.store import Address
value = yaml.safe_load(Path({str(file)!r}).read_text())
value.pop("server")
address = Address("unix://{state_dir}/store/nobody.sock")
with serving(value, Path({str(state_dir)!r}), address) as sidecar:
    sidecar.chat("far", headers={SECRET!r})
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parent.parent)
    try:
        until(lambda: "far" in provider.hosts(), within_s=60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    code_, found = ask(file)

    assert (code_, found["calls"], found["by"][0]["endpoint"]) == (1, 1, "far")
    assert found["of_unknown_configuration"] == 0


# -- refused ------------------------------------------------------------------------------------


def test_what_cannot_be_recorded_does_not_leave_by_any_way(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = {"model": "claude", "messages": [{"role": "user", "content": "hi"}]}
    with serving(value(provider), state_dir, address) as sidecar:
        with _full_disk(sidecar, monkeypatch):
            refused = [
                sidecar.chat("far", headers=SECRET),
                sidecar.chat("far", headers=SECRET, stream=True),
                sidecar.chat("auto", headers=SECRET),
                sidecar.chat("unlisted", headers=SECRET),
                sidecar.http.post("/v1/moderations", json={"input": "x"}, headers=SECRET),
                sidecar.http.post("/v1/messages/count_tokens", json=counting, headers=SECRET),
            ]
            assert provider.calls == [], "not one byte"
            assert sidecar.chat("far").status_code == 200, "what is not sensitive goes on"
        again = sidecar.chat("far", headers=SECRET)

    assert [one.status_code for one in refused] == [503] * 6
    assert {one.json()["error"].get("code") for one in refused[:5]} == {"audit_unavailable"}
    assert again.status_code == 200


def test_a_journal_that_loses_its_oldest_takes_no_intent_until_it_is_sent(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(value(provider), state_dir, address) as sidecar:

        def is_refused() -> bool:
            sidecar.app.writer._overflows = True  # until its next look, which may be at once
            n_before = len(provider.calls)
            refused = sidecar.chat("far", headers=SECRET).status_code == 503
            assert refused is (len(provider.calls) == n_before)
            return refused

        sidecar.until(is_refused)
        sidecar.until(lambda: not sidecar.app.writer._overflows)
        assert sidecar.chat("far", headers=SECRET).status_code == 200


def test_every_attempt_is_on_record_before_it_is_made(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Also the fallback's."""
    provider.on("far", Reply(status=500, body=b"{}"))
    seen: list[int] = []

    def note(call: Any) -> Reply:
        seen.append(sidecar.app.intents.n_recorded)
        return Reply(status=500, body=b"{}") if call.host == "far" else Reply(body=answer())

    apps = {"default": {"fallback": "any", "data_class": "confidential", "incumbent": "far"}}
    with serving(value(provider, apps=apps), state_dir, address) as sidecar:
        for host in ("far", "near", "unsaid"):
            provider.on(host, note)
        assert sidecar.chat("auto").status_code == 200

    assert len(seen) >= 2
    assert seen == list(range(1, len(seen) + 1))


def test_other_calls_pay_for_no_record(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    with serving(value(provider), state_dir, address) as sidecar:
        for name in ("near", "far", "unlisted"):
            assert sidecar.chat(name).status_code == 200

        assert sidecar.app.intents.n_recorded == 0


# -- configurations -----------------------------------------------------------------------------


@pytest.mark.usefixtures("store")
def test_reloads_that_loosened_something_are_listed_and_those_that_tightened_are_not(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    def take(whole: dict[str, Any]) -> None:
        before = sidecar.app.keeper.current.configuration.version
        server = {"port": 0, "state_dir": str(state_dir)}
        text = yaml.safe_dump({**whole, "server": server, "store": {"shards": SHARDS}})
        file.write_text(text)
        os.utime(file)
        sidecar.app.keeper.file.ask()
        sidecar.until(lambda: sidecar.app.keeper.current.configuration.version != before)
        time.sleep(0.05)  # until the loop heard of it

    strict = value(provider, apps={"default": {"data_class": "restricted"}})
    loose = value(provider, apps={"default": {"data_class": "internal"}})
    with serving(strict, state_dir, address, file=file) as sidecar:
        take(loose)
        take(strict)
        take(loose)
    with serving({**loose, "tasks": {"code": None}}, state_dir, address, file=file) as sidecar:
        _, found = ask(file)

    assert [one["what"] for one in found["loosened"]] == [
        ["app default: data_class restricted → internal"]
    ] * 2, "of what was served first, which `take` wrote in another order, and of that"
    assert [one["how"] for one in found["loosened"]] == ["reload", "reload"]
    assert found["gaps"] == 0


@pytest.mark.usefixtures("store")
def test_what_was_loosened_while_nothing_ran_is_listed_with_the_start(
    provider: Provider, state_dir: Path, address: Address, file: Path
) -> None:
    for region in (["eu"], ["eu", "us"]):
        apps = {"default": {"regions": region}}
        whole = value(provider, apps=apps)
        whole["endpoints"] = [endpoint(provider, "near", region="eu")]
        with serving(whole, state_dir, address, file=file):
            pass

    _, found = ask(file)

    assert [(one["how"], one["what"]) for one in found["loosened"]] == [
        ("start", ["app default: regions eu → eu, us"])
    ]
    assert (found["gaps"], found["complete"]) == (0, True)


# -- the answer, by the record alone -------------------------------------------------------------

HOUR_MS = 3_600_000
T0 = 1_790_000_000_000
HARD = hard_constraints(
    compile_text(
        "endpoints: [{id: far, model: m, base_url: 'http://x.test/v1', zone: vendor}]", file="t"
    )
)
ME, OTHER = b"m" * 16, b"o" * 16


class Record:
    """A trail that is made up; each producer's numbers follow each other."""

    def __init__(self) -> None:
        self.content = TrailContent()
        self.numbers: dict[bytes, int] = {}

    def put(self, producer: bytes, at_ms: int, *records: bytes) -> None:
        first = self.numbers.get(producer, 0)
        self.content.add(Frame(producer, SHARDS, first, b"".join(records)), at_ms)
        self.skip(producer, len(records))

    def skip(self, producer: bytes, n: int) -> None:
        self.numbers[producer] = self.numbers.get(producer, 0) + n

    def say(self, at_ms: int, word: TrailWord, *, producer: bytes = ME, n_dropped: int = 0) -> None:
        records = pack_configuration(
            SHARDS,
            at_ms=at_ms,
            configuration=7,
            word=word,
            n_dropped=n_dropped,
            constraints=json.dumps(HARD).encode(),
        )
        self.put(producer, at_ms, *records)

    def answer(self, *, since_ms: int = T0, now_ms: int = T0 + HOUR_MS) -> PrivacyAnswer:
        return answered(self.content, PrivacyQuestion("internal", "local", since_ms, now_ms), HARD)


def leaves(at_ms: int, *, configuration: int = 7, zone: str = "vendor") -> bytes:
    whole = (at_ms, bytes(16), IntentWay.CALL, 1, "confidential", 2, zone, 5, "far", 6, "default")
    return Intent(*whole, configuration).pack(SHARDS)


def gaps(found: PrivacyAnswer) -> list[tuple[str, int]]:
    return [(gap.what, gap.n_records) for gap in found.gaps]


def test_a_whole_record_is_complete_since_it_began() -> None:
    record = Record()
    record.say(T0, TrailWord.BEGAN)

    found = record.answer()

    assert (found.is_complete, gaps(found)) == (True, [])
    assert not record.answer(since_ms=T0 - 1).is_complete, "before it there is nothing"


def test_nothing_on_record_is_no_complete_answer() -> None:
    found = Record().answer()

    assert (found.n_left, found.is_complete, found.recorded_since_ms) == (0, False, None)
    assert found.as_json()["left"] is None, "nor a no"


def test_missing_numbers_are_a_gap_and_it_is_complete_from_then_on() -> None:
    record = Record()
    record.say(T0, TrailWord.BEGAN)
    record.skip(ME, 3)
    record.put(ME, T0 + 500, leaves(T0 + 500))

    found = record.answer()

    assert gaps(found) == [("records missing", 3)]
    assert (found.is_complete, found.complete_since_ms) == (False, T0 + 500)
    assert record.answer(since_ms=T0 + 501).is_complete


def test_the_first_numbers_of_a_process_are_missed_unless_they_were_deleted() -> None:
    record = Record()
    record.skip(ME, 5)
    record.say(T0, TrailWord.STILL)

    assert gaps(record.answer()) == [("records missing", 5)]
    record.content.kept_since_ms = T0 - HOUR_MS // 2
    assert gaps(record.answer()) == []


def test_time_after_a_process_that_fell_silent_is_a_gap_and_after_one_that_ended_is_none() -> None:
    silent, ended = Record(), Record()
    for record in (silent, ended):
        record.say(T0, TrailWord.BEGAN)
    ended.say(T0 + 1000, TrailWord.ENDED)
    for record in (silent, ended):
        record.say(T0 + 9 * HOUR_MS, TrailWord.BEGAN, producer=OTHER)
    later = {"now_ms": T0 + 9 * HOUR_MS + 1}

    assert gaps(ended.answer(**later)) == []
    assert gaps(silent.answer(**later)) == [("no configuration known", 0)]
    assert silent.answer(**later).gaps[0].from_ms == T0 + SILENT_MS


def test_a_process_that_was_killed_is_no_gap_while_another_one_speaks() -> None:
    record = Record()
    record.say(T0, TrailWord.BEGAN)
    for hour in range(5):
        record.say(T0 + hour * HOUR_MS, TrailWord.STILL, producer=OTHER)

    assert gaps(record.answer(now_ms=T0 + 5 * HOUR_MS)) == []


def test_what_journals_dropped_is_a_gap() -> None:
    record = Record()
    record.say(T0, TrailWord.BEGAN)
    record.say(T0 + 1000, TrailWord.STILL, n_dropped=4)
    record.say(T0 + 2000, TrailWord.STILL, n_dropped=4)

    assert gaps(record.answer()) == [("journal dropped", 4)]


def test_records_of_an_unknown_configuration_are_counted_and_judged_by_todays_classes() -> None:
    record = Record()
    record.say(T0, TrailWord.BEGAN)
    record.put(ME, T0 + 1, leaves(T0 + 1, configuration=8))

    found = record.answer()

    assert (found.n_left, found.n_unknown, found.is_complete) == (1, 1, False)


def test_classes_that_are_never_recorded_make_no_answer_complete() -> None:
    record = Record()
    record.say(T0, TrailWord.BEGAN)
    question = PrivacyQuestion("public", "local", T0, T0 + 1)

    found = answered(record.content, question, HARD)

    assert (found.not_recorded, found.is_complete) == (["internal"], False)


ASKED = ("--above", "internal", "--outside", "local")

# -- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--above CLASS --outside ZONE"),
        (("--above", "internal"), "--outside ZONE"),
        (("--above", "secret", "--outside", "local"), "no class secret"),
        (("--above", "restricted", "--outside", "local"), "--above confidential"),
        (("--above", "internal", "--outside", "loca"), "no zone loca; known: local"),
        (("--above", "internal", "--outside", "local", "--since", "monday"), "2026-11-01"),
        (("--above", "internal", "--outside", "local", "--since", "2999-01-01"), "yet to come"),
    ],
)
def test_a_question_that_means_nothing_is_no_answer(
    store: PrivateServer,
    provider: Provider,
    state_dir: Path,
    file: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    server = {"port": 0, "state_dir": str(state_dir)}
    file.write_text(yaml.safe_dump({**value(provider), "server": server}))

    found = pointsman("audit", "privacy", *words, "--config", file)

    assert found.exit_code == 2
    assert said in found.stderr


def test_a_store_that_is_away_is_no_answer(
    provider: Provider, state_dir: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"unix://{state_dir}/nobody.sock")
    file.write_text(yaml.safe_dump({**value(provider), "server": {"state_dir": str(state_dir)}}))

    code, found = ask(file)

    assert (code, "store" in found["said"]) == (2, True)


def test_where_nothing_is_on_record_the_answer_is_not_known(
    store: PrivateServer, provider: Provider, state_dir: Path, file: Path
) -> None:
    server = {"port": 0, "state_dir": str(state_dir)}
    file.write_text(yaml.safe_dump({**value(provider), "server": server}))

    found = pointsman("audit", "privacy", *ASKED, "--config", file)

    assert found.exit_code == 2
    assert found.stdout.startswith("not known whether anything above internal left zone local")
