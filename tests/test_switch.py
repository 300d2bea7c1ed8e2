"""`off` and `on`: a word with a time, in the state directory and in the store; the latest holds."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import stat
import subprocess
import sys
import time
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import (
    SHARDS,
    Provider,
    Sidecar,
    endpoint,
    fake_store,
    free_port,
    pointsman,
    serving,
)
from hypothesis import given
from hypothesis import strategies as st

from router.beliefs import switch as switch_file
from router.beliefs.kept_switch import KeptSwitch, read_store, tell_store
from router.beliefs.switch import (
    Switch,
    SwitchFile,
    SwitchWord,
    last_of,
    next_word,
    parse_word,
    switch_of,
    word_in_store,
)
from router.config.places import places
from telemetry import keys
from telemetry.store import Address, connect

NOW = 1_764_000_000_000
HOUR = 3_600_000


def off(at: int, since: int | None = -1) -> SwitchWord:
    return SwitchWord(at, True, at if since == -1 else since)


def on(at: int, since: int | None = -1) -> SwitchWord:
    return SwitchWord(at, False, at if since == -1 else since)


# -- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("in_file", "in_store", "holds", "since"),
    [
        (None, None, False, None),
        (off(NOW), None, True, NOW),
        (None, off(NOW), True, NOW),
        (off(NOW), on(NOW + 1), False, NOW + 1),
        (on(NOW), off(NOW + 1), True, NOW + 1),
        (off(NOW + 1), on(NOW), True, NOW + 1),
        (off(NOW), on(NOW), True, NOW),  # of one moment: the safe one
        (off(NOW), off(NOW + HOUR), True, NOW),  # it went on to be off
        (off(NOW + HOUR, NOW), on(NOW + 1), True, NOW + HOUR),  # it was on in between
        (off(0, None), None, True, None),
        (off(0, None), on(NOW), False, NOW),
    ],
)
def test_the_latest_word_holds_wherever_it_was_said(
    in_file: SwitchWord | None, in_store: SwitchWord | None, holds: bool, since: int | None
) -> None:
    for found in (switch_of(in_file, in_store), switch_of(in_store, in_file)):
        assert (found.off, found.since_ms) == (holds, since)
        assert found.off_since_ms == (since if holds else None)


def test_a_new_word_is_later_than_the_one_before_whatever_the_clock_says() -> None:
    before = switch_of(off(NOW), None)

    assert next_word(before, off=False, now_ms=NOW - HOUR) == on(NOW + 1)
    assert next_word(before, off=True, now_ms=NOW + HOUR) == off(NOW + HOUR, since=NOW)
    assert next_word(Switch(), off=True, now_ms=NOW) == off(NOW)


WORDS = st.builds(
    SwitchWord, st.integers(NOW, 10 * NOW // 2), st.booleans(), st.integers(NOW, 10 * NOW // 2)
)


@given(word=WORDS)
def test_a_word_is_read_as_it_was_written(word: SwitchWord) -> None:
    assert parse_word(word.text, off=word.off) == word


@given(text=st.binary(max_size=64))
def test_any_bytes_in_its_place_are_a_word_of_some_time(text: bytes) -> None:
    assert parse_word(text, off=True, changed_ms=NOW).off


@pytest.mark.parametrize("value", [b"1", b"", b"yes", b"9" * 400])
def test_a_value_without_a_moment_is_older_than_any_word(value: bytes) -> None:
    assert word_in_store(value, None) == off(0, None)
    assert word_in_store(value, str(NOW).encode()) == on(NOW)


# -- the file -----------------------------------------------------------------------------------


def test_yesterdays_empty_file_is_off_since_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "off").touch()
    os.utime(tmp_path / "off", ns=(NOW * 10**6, NOW * 10**6))

    assert SwitchFile(tmp_path).read() == off(NOW)


def test_a_word_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    file = SwitchFile(tmp_path)
    said = [off(NOW), off(NOW + 5, NOW), on(NOW + 6), on(NOW + 7, NOW + 6), off(NOW + 8)]
    for word in said:
        file.write(word)
        assert file.read() == word
        assert [p.name for p in tmp_path.iterdir()] == ["off" if word.off else "on"]


def test_a_later_word_of_somebody_else_stays(tmp_path: Path) -> None:
    SwitchFile(tmp_path).write(off(NOW + 5))
    SwitchFile(tmp_path).write(on(NOW))

    assert SwitchFile(tmp_path).read() == off(NOW + 5)


@pytest.mark.parametrize("before", [None, off(NOW - 5), on(NOW - 5)])
def test_on_a_full_disk_an_empty_file_says_it_by_its_time(
    before: SwitchWord | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if before is not None:
        SwitchFile(tmp_path).write(before)

    def full(self: Path, data: bytes) -> int:
        self.open("wb").close()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    SwitchFile(tmp_path).write(off(NOW))

    assert SwitchFile(tmp_path).read() == off(NOW)
    assert [p.name for p in tmp_path.iterdir()] == ["off"]


def test_a_file_that_may_not_be_read_says_its_word_by_its_name_and_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SwitchFile(tmp_path).write(off(NOW))

    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "no", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)

    assert SwitchFile(tmp_path).read() == off(NOW)


# -- the store ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["imitated", "real"])
def test_the_store_keeps_the_latest_word_in_whatever_order_they_come(
    kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "real":
        request.getfixturevalue("store")
    address = request.getfixturevalue("address")
    with closing(connect(address)) as client:
        assert read_store(client) is None
        said = [off(NOW), on(NOW - 1), on(NOW), on(NOW + 1), off(NOW + 1), off(NOW + 1, NOW)]
        taken = [tell_store(client, word) for word in said]

        assert taken == [True, False, False, True, True, True]
        assert read_store(client) == off(NOW + 1, NOW) == last_of([said[-1], *said[:-2]])
        assert tell_store(client, on(NOW + 2))
        assert (client.get(keys.OFF), client.get(keys.ON)) == (None, str(NOW + 2).encode())


def test_yesterdays_value_counts_with_its_moment(client: Any) -> None:
    client.set(keys.OFF, NOW)
    assert read_store(client) == off(NOW)
    assert not tell_store(client, on(NOW - 1))
    assert tell_store(client, on(NOW + 1))
    client.set(keys.OFF, "1")
    assert read_store(client) == on(NOW + 1)


def test_both_places_come_to_say_the_same_and_stay_so(client: Any, tmp_path: Path) -> None:
    """Whatever is in them, two sidecars and their store agree within two looks."""
    states = [None, off(NOW), off(NOW + 3, NOW), on(NOW + 1), on(NOW + 4), off(0, None)]
    for n, (a, b, c) in enumerate((a, b, c) for a in states for b in states for c in states):
        client.flushall()
        dirs = [tmp_path / f"{n}-{i}" for i in range(2)]
        for directory, word in zip(dirs, (a, b), strict=True):
            directory.mkdir()
            if word is not None:
                SwitchFile(directory).write(word)
        if c is not None:
            tell_store(client, c)
        sidecars = [KeptSwitch(directory) for directory in dirs]

        for _ in range(3):
            for sidecar in sidecars:
                sidecar.hear(client, client.get(keys.OFF), client.get(keys.ON))

        latest = last_of(word for word in (a, b, c) if word is not None)
        held = [SwitchFile(directory).read() for directory in dirs] + [read_store(client)]
        assert {word and word.order for word in held} == {latest and latest.order}
        assert len({sidecar.look() for sidecar in sidecars}) == 1


class Machines:
    """Three of them with clocks of their own, and a store that is away now and then."""

    def __init__(self, client: Any, root: Path, rng: random.Random) -> None:
        self.client, self.rng, self.now_ms, self.is_up = client, rng, NOW, True
        self.dirs = [root / str(i) for i in range(3)]
        for directory in self.dirs:
            directory.mkdir(parents=True)
        self.sidecars = [KeptSwitch(directory) for directory in self.dirs]
        self.skews_ms = [rng.randint(-HOUR, HOUR) for _ in self.dirs]

    def look(self, i: int) -> None:
        if self.is_up:
            self.sidecars[i].hear(self.client, self.client.get(keys.OFF), self.client.get(keys.ON))

    def say(self, *, off: bool) -> None:
        """Say a word as the verbs do, while sidecars look."""
        i = self.rng.randrange(3)
        file, now_ms = SwitchFile(self.dirs[i]), self.now_ms
        before = file.read()
        file.write(next_word(switch_of(before, None), off=off, now_ms=now_ms + self.skews_ms[i]))
        if self.rng.random() < 0.5:
            self.look(i)
        if self.is_up:
            word = next_word(switch_of(before, read_store(self.client)), off=off, now_ms=now_ms)
            assert tell_store(self.client, word)
            file.write(word)

    def pass_some_time(self) -> None:
        self.now_ms += self.rng.randint(1, HOUR // 4)
        what = self.rng.random()
        if what < 0.2:
            self.is_up = not self.is_up
        elif what < 0.5:
            self.look(self.rng.randrange(3))
        else:
            self.say(off=self.rng.random() < 0.5)


@pytest.mark.parametrize("seed", range(50))
def test_what_was_said_last_holds_everywhere_whatever_the_clocks_show(
    seed: int, client: Any, tmp_path: Path
) -> None:
    machines = Machines(client, tmp_path, random.Random(seed))
    for _ in range(40):
        machines.pass_some_time()
    machines.is_up = True
    for i in (0, 1, 2, 0, 1, 2):
        machines.look(i)

    machines.say(off=bool(seed % 2))
    for i in (0, 1, 2, 0, 1, 2):
        machines.look(i)

    (found,) = {sidecar.look() for sidecar in machines.sidecars}
    assert found.off is bool(seed % 2)
    assert found.said_in == ("file", "store")


# -- the verbs ----------------------------------------------------------------------------------


@pytest.fixture
def config(state_dir: Path) -> Path:
    return written(state_dir)


def written(state_dir: Path, **store: Any) -> Path:
    state_dir.mkdir(exist_ok=True)
    path = state_dir / "pointsman.yaml"
    value = {
        "server": {"state_dir": str(state_dir)},
        "store": {"shards": SHARDS, **store},
        "endpoints": [{"id": "a", "model": "m", "base_url": "http://127.0.0.1:1/v1"}],
    }
    path.write_text(yaml.safe_dump(value))
    return path


def test_a_repeated_word_keeps_since_when_it_is_off(config: Path, address: Address) -> None:
    environment = {"REDIS_URL": address.url}
    words = []
    for _ in range(3):
        assert pointsman("off", "--config", config, environment=environment).exit_code == 0
        with closing(connect(address)) as client:
            words.append(read_store(client))
        assert words[-1] == SwitchFile(config.parent).read()

    assert len({word.since_ms for word in words if word}) == 1
    assert all(a and b and a.at_ms < b.at_ms for a, b in pairwise(words))


@pytest.mark.usefixtures("store")
def test_a_word_has_the_stores_time_where_the_store_answers(
    config: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine whose clock is an hour ahead does not hold the switch for an hour."""
    ahead = time.time() + 3600
    monkeypatch.setattr("router.commands.switch.time.time", lambda: ahead)
    before = int(time.clock_gettime(time.CLOCK_REALTIME) * 1000)
    pointsman("off", "--config", config, environment={"REDIS_URL": address.url})
    word = SwitchFile(config.parent).read()

    assert word is not None
    assert before - 1000 <= word.at_ms <= before + 60_000


def test_on_holds_against_a_word_that_a_wrong_clock_put_into_the_future(
    config: Path, address: Address
) -> None:
    future = int(time.time() * 1000) + 24 * HOUR
    with closing(connect(address)) as client:
        tell_store(client, off(future))
        pointsman("on", "--config", config, environment={"REDIS_URL": address.url})

        assert read_store(client) == SwitchFile(config.parent).read() == on(future + 1)


def test_the_file_is_written_before_anything_that_talks_to_a_store_is_loaded() -> None:
    program = "import sys, router.commands.switch; print({'redis', 'numpy'} & set(sys.modules))"

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )

    assert done.stdout == "set()\n"


def test_without_a_configuration_the_default_state_directory_is_switched_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    state = tmp_path / "state" / "pointsman"

    for verb in ("off", "on"):
        done = pointsman(verb)

        assert done.exit_code == 0
        assert str(state) in done.stdout
        assert "the default: there is no pointsman.yaml" in done.stdout
        assert (state / verb).exists()
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_a_configuration_that_is_named_and_missing_is_said_and_the_file_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: Address
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    for url, told in (("", ""), (address.url, " and everywhere on its store")):
        done = pointsman("off", "--config", tmp_path / "typo.yaml", environment={"REDIS_URL": url})

        assert done.exit_code == 1
        assert done.stdout.endswith(f"there is no {tmp_path / 'typo.yaml'}){told}\n")
        assert "typo.yaml cannot be read (No such file" in done.stderr
        assert (tmp_path / "pointsman" / "off").exists()


@pytest.fixture
def silent() -> Any:
    """A store that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    "url", ["silent", "redis://127.0.0.1:1", "http://x", "redis+sentinel://127.0.0.1:1/main",
            "redis+cluster://127.0.0.1:1"]
)  # fmt: skip
@pytest.mark.parametrize("verb", ["off", "on"])
def test_a_store_that_did_not_hear_it_is_said_and_the_file_is_in_force(
    verb: str, url: str, config: Path, silent: str
) -> None:
    began = time.monotonic()

    done = pointsman(
        verb, "--config", config, environment={"REDIS_URL": silent if url == "silent" else url}
    )

    assert time.monotonic() - began < 10
    assert done.exit_code == 1
    assert f"routing is {verb} for sidecars with state in {config.parent}" in done.stdout
    assert "everywhere" not in done.stdout
    assert "its store was not told: " in done.stderr
    assert "the file is in force" in done.stderr
    assert (config.parent / verb).exists()


def test_a_store_whose_variable_is_not_set_here_did_not_hear_it(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_STORE", raising=False)
    config = written(state_dir, url_env="MY_STORE")

    done = pointsman("off", "--config", config)

    assert done.exit_code == 1
    assert "MY_STORE is not set" in done.stderr
    assert (state_dir / "off").exists()


def test_a_key_in_the_place_of_a_variable_is_not_shown(state_dir: Path) -> None:
    done = pointsman("off", "--config", written(state_dir, url_env="redis://:hunter2@h/0"))

    assert done.exit_code == 1
    assert "hunter2" not in done.output


@pytest.mark.parametrize("verb", ["off", "on"])
@pytest.mark.parametrize("kind", ["a file", "below a file", "not to be made"])
def test_with_a_state_directory_that_cannot_be_written_the_store_is_told(
    kind: str, verb: str, tmp_path: Path, address: Address
) -> None:
    (tmp_path / "file").write_text("")
    state = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "state",
        "not to be made": Path("/proc/pointsman/state"),
    }[kind]
    config = tmp_path / "pointsman.yaml"
    config.write_text(yaml.safe_dump({"server": {"state_dir": str(state)}}))

    done = pointsman(verb, "--config", config, environment={"REDIS_URL": address.url})

    assert done.exit_code == 1
    assert "server.state_dir: " in done.stderr
    assert f"routing is {verb} everywhere on the store" in done.stdout
    with closing(connect(address)) as client:
        word = read_store(client)
    assert word is not None
    assert word.off is (verb == "off")


def test_without_a_home_the_store_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: Address
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pointsman.yaml").write_text("server: {state_dir: ~nobody-of-this-name/x}\n")

    done = pointsman("off", environment={"REDIS_URL": address.url})

    assert done.exit_code == 1
    assert "no such home directory" in done.stderr
    assert "everywhere on the store" in done.stdout


@pytest.mark.parametrize(
    "text",
    [
        "server: {state_dir: DIR, port: [}\nstore: {url_env: S, prefix: staging}\n",
        "server:\n\tport: 1\n  state_dir: 'DIR'  # here\nstore:\n  url_env: S\n  prefix: staging\n",
        '# state_dir: /else\nserver:\n  state_dir: "DIR"\nstore: {"url_env: S, prefix: staging}\n',
    ],
)
def test_a_file_that_is_no_yaml_any_more_still_says_where_the_state_lies(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who breaks the file of a running sidecar can still switch it off."""
    monkeypatch.setenv("S", "redis://h")
    file = tmp_path / "pointsman.yaml"
    file.write_text(text.replace("DIR", f"{tmp_path}/state"))

    found = places(file)

    assert found.state_dir == tmp_path / "state"
    assert found.store_prefix == "staging"
    assert (found.store_url, found.unset) == (
        (None, "") if '"url_env' in text else ("redis://h", "")
    )


def test_a_file_that_may_not_be_read_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "pointsman.yaml").mkdir()

    done = pointsman("off")

    assert done.exit_code == 1
    assert "pointsman.yaml cannot be read" in done.stderr
    assert (tmp_path / "pointsman" / "off").exists()


@pytest.mark.parametrize("text", ["a: [\nstate_dir: *d\n", "a: [\n# state_dir: /x\n", "\xff: ["])
def test_of_a_broken_file_no_place_is_made_up(text: str, tmp_path: Path) -> None:
    (tmp_path / "pointsman.yaml").write_bytes(text.encode("latin-1"))

    assert places(tmp_path / "pointsman.yaml").named is None


@pytest.mark.parametrize("text", [" " * 4_000_000, "state_dir:" * 400_000, "{ ," * 1_300_000])
def test_a_large_broken_file_is_read_by_lines_in_bounded_time(text: str, tmp_path: Path) -> None:
    (tmp_path / "pointsman.yaml").write_text(f"a: [\n{text}\n\t}}")
    began = time.process_time()

    places(tmp_path / "pointsman.yaml")

    assert time.process_time() - began < 20


# -- sidecars -----------------------------------------------------------------------------------


def value(provider: Provider) -> dict[str, Any]:
    return {"endpoints": [endpoint(provider, "a")]}


def until_off(sidecar: Sidecar, wanted: bool) -> None:
    sidecar.until(lambda: sidecar.app.keeper.off is wanted, within_s=5)


def test_a_word_reaches_every_sidecar_of_a_store_and_its_files(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    config = written(state_dir / "one")
    (state_dir / "two").mkdir()
    with (
        serving(value(provider), state_dir / "one", address) as one,
        serving(value(provider), state_dir / "two", address) as two,
    ):
        for verb in ("off", "on", "off"):
            pointsman(verb, "--config", config, environment={"REDIS_URL": address.url})
            for sidecar in (one, two):
                until_off(sidecar, verb == "off")
                sidecar.until((sidecar.state_dir / verb).exists)
        said = two.http.get("/v1/router/posteriors").json()["switch"]
        assert (said["word"], said["said_in"]) == ("off", ["file", "store"])


def test_a_word_that_the_store_did_not_hear_reaches_it_as_soon_as_it_answers(
    provider: Provider, state_dir: Path
) -> None:
    port = free_port()
    address = Address(f"redis://127.0.0.1:{port}/0")
    (state_dir / "two").mkdir()
    config = written(state_dir)
    with (
        serving(value(provider), state_dir, address) as one,
        serving(value(provider), state_dir / "two", address) as two,
    ):
        done = pointsman("off", "--config", config, environment={"REDIS_URL": address.url})
        assert done.exit_code == 1
        until_off(one, True)
        assert not two.app.keeper.off
        with fake_store(port):
            until_off(two, True)
            two.until((two.state_dir / "off").exists)
            SwitchFile(two.state_dir).write(on(int(time.time() * 1000) + 5))
            until_off(one, False)
            one.until((one.state_dir / "on").exists)


def test_on_outlives_a_store_that_was_away_and_still_says_off(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    now = int(time.time() * 1000)
    with closing(connect(address)) as client:
        client.set(keys.OFF, now - HOUR)  # as earlier versions wrote it
        SwitchFile(state_dir).write(on(now))
        with serving(value(provider), state_dir, address) as sidecar:
            sidecar.until(lambda: read_store(client) == on(now))

            assert not sidecar.app.keeper.off


def test_a_restart_without_the_store_keeps_what_the_store_said(
    provider: Provider, state_dir: Path
) -> None:
    with fake_store() as address, closing(connect(address)) as client:
        tell_store(client, off(NOW))
        with serving(value(provider), state_dir, address) as sidecar:
            sidecar.until((state_dir / "off").exists)
    nowhere = Address("redis://127.0.0.1:1/0")
    with serving(value(provider), state_dir, nowhere) as sidecar:
        assert sidecar.app.keeper.off
        assert sidecar.app.keeper.switch.since_ms == NOW


def test_a_state_directory_that_cannot_be_written_leaves_the_stores_word_in_force(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, word: SwitchWord) -> None:
        raise OSError(errno.EROFS, "read-only", str(file))

    tell_store(client, off(NOW))
    monkeypatch.setattr(switch_file, "_write", refuse)
    kept = KeptSwitch(tmp_path)
    kept.hear(client, client.get(keys.OFF), client.get(keys.ON))

    assert kept.look()[:2] == (True, NOW)


@pytest.mark.usefixtures("store")
def test_reports_say_since_when_routing_is_off_and_by_which_word(
    provider: Provider, state_dir: Path, address: Address
) -> None:
    """Upgraded from a version that knew an empty file and a moment in the store."""
    config = written(state_dir)
    environment = {"REDIS_URL": address.url}
    hour_ago, now = (int(time.time()) - 3600) * 1000, int(time.time() * 1000)
    (state_dir / "off").touch()
    os.utime(state_dir / "off", ns=(hour_ago * 10**6, hour_ago * 10**6))
    with closing(connect(address)) as client:
        client.set(keys.OFF, now)
    apart = json.loads(pointsman("report", "--config", config, "--json", environment=environment)
                       .stdout)  # fmt: skip
    with serving(value(provider), state_dir, address) as sidecar:
        sidecar.until(lambda: len(sidecar.app.keeper.switch.said_in) == 2)
        shown = sidecar.http.get("/v1/router/posteriors").json()
        ready = sidecar.http.get("/readyz?verbose").json()
    printed = pointsman("report", "--config", config, environment=environment).stdout

    said = {"word": "off", "since_ms": hour_ago, "said_at_ms": now}
    assert apart["switch"] == {**said, "said_in": ["store"]}
    assert shown["switch"] == ready["switch"] == {**said, "said_in": ["file", "store"]}
    assert shown["off_since_ms"] == ready["off_since_ms"] == hour_ago
    line = " ".join(printed.split())
    assert f"Routing is off since {time.strftime('%Y-%m-%d', time.gmtime(hour_ago / 1000))}" in line
    assert "in the state directory and the store" in line
    assert pointsman("on", "--config", config, environment=environment).exit_code == 0
    after = pointsman("report", "--config", config, "--json", environment=environment)
    found = json.loads(after.stdout)
    assert (found["off"], found["off_since_ms"], found["switch"]["word"]) == (False, None, "on")
