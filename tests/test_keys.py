"""Keys of callers: made, listed, revoked; in the file as digests, and held by a running sidecar."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import SHARDS, Provider, Sidecar, endpoint, pointsman, serving

from router.config import watch
from router.config.compiled import Configuration, compile_text
from router.config.file import parse
from router.config.keys import hashed, make_key
from router.errors import ConfigError, Problem, RequestRejected
from router.policy.callers import MAX_KNOWN, Keys
from telemetry.store import Address

ONE = "endpoints:\n  - {id: a, model: m, base_url: http://h/v1}\n"
MADE = re.compile(r"pm-[0-9a-f]{48}")


def compiled(more: str) -> Configuration:
    return compile_text(ONE + more, file="f")


def refused(more: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(ONE + more, file="f")
    return caught.value.problems


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


# -- in the file --------------------------------------------------------------------------------


def test_a_digest_lets_its_key_in_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "other-key")
    made, admin = make_key(), make_key()
    text = f"apps: {{web: {{keys: [{{env: OTHER}}, '{hashed(made).upper()}']}}}}\n"
    keys = Keys(compiled(text + f"server: {{host: 0.0.0.0, admin_key: {hashed(admin)}}}\n"))

    assert keys.caller(bearer(made)).app.name == "web"
    assert keys.caller(bearer("other-key")).app.name == "web"
    keys.require_admin(bearer(admin))
    for wrong in (hashed(made), hashed(made).removeprefix("sha256:"), made[:-1], "", admin, "x"):
        with pytest.raises(RequestRejected):
            keys.caller(bearer(wrong))
    for wrong in (hashed(admin), made, ""):
        with pytest.raises(RequestRejected):
            keys.require_admin(bearer(wrong))


def test_a_key_that_was_made_here_never_travels_on_not_even_a_revoked_one() -> None:
    keys = Keys(compiled(""))

    assert keys.caller(bearer(make_key())).credentials == ()
    assert keys.caller(bearer("sk-own")).credentials == ((b"authorization", b"Bearer sk-own"),)


def test_a_caller_is_known_again_by_a_digest_and_its_key_stays_nowhere() -> None:
    made, other = make_key(), "sk-provider-secret"
    keys = Keys(compiled(f"apps: {{web: {{keys: ['{hashed(made)}']}}}}\n"))
    asked = {**bearer(other), b"x-router-key": made.encode()}
    beside = {**bearer(other + "2"), b"x-router-key": made.encode()}

    found = [keys.caller(asked) for _ in range(3)]
    another = keys.caller(beside)

    assert {one.app.name for one in (*found, another)} == {"web"}
    assert [one.credentials for one in found] == [tuple(bearer(other).items())] * 3
    assert another.credentials[0][1].endswith(b"2")
    assert len(keys._known) == 2
    held = repr(keys._known).encode()
    assert made.encode() not in held
    assert other.encode() not in held


def test_who_is_known_under_one_configuration_is_nobody_under_the_next() -> None:
    one, two = make_key(), make_key()
    text = "apps: {{web: {{keys: ['{}']}}}}\n"
    before, after = (Keys(compiled(text.format(hashed(key)))) for key in (one, two))

    assert before.caller(bearer(one)) is before.caller(bearer(one))
    for _ in range(2):
        with pytest.raises(RequestRejected):
            after.caller(bearer(one))
        with pytest.raises(RequestRejected):
            before.caller({})
    assert after._known == {}


def test_as_many_callers_are_remembered_as_there_is_room_for() -> None:
    keys = Keys(compiled(""))
    for i in range(MAX_KNOWN + 5):
        name = f"Bearer sk-{i}".encode()
        assert keys.caller({b"authorization": name}).credentials == ((b"authorization", name),)

    assert 0 < len(keys._known) <= MAX_KNOWN


@pytest.mark.parametrize(
    "pair",
    ["[{env: K}, sha256]", "[sha256, {env: K}]", "[sha256, SHA256]", "[sha256, {file: FILE}]"],
)
@pytest.mark.parametrize("where", ["one app", "two apps", "admin"])
def test_one_key_of_two_callers_is_refused_whatever_its_forms(
    pair: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_key()
    monkeypatch.setenv("K", made)
    (tmp_path / "key").write_text(f"{made}\n")
    written = pair.replace("sha256", hashed(made)).replace("SHA256", hashed(made).upper())
    first, second = yaml.safe_load(written.replace("FILE", str(tmp_path / "key")))
    value: dict[str, Any] = {
        "one app": {"apps": {"a": {"keys": [first, second]}}},
        "two apps": {"apps": {"a": {"keys": [first]}, "b": {"keys": [second]}}},
        "admin": {"apps": {"a": {"keys": [second]}}, "server": {"admin_key": first}},
    }[where]

    (problem,) = refused(yaml.safe_dump(value))

    assert "the same key as" in problem.hint
    assert made not in problem.shown("f")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("'sha256:'", "64 hexadecimal digits"),
        ("sha256:" + "0" * 63, "64 hexadecimal digits"),
        ("sha256:" + "g" * 64, "64 hexadecimal digits"),
        (hashed(""), "the digest of nothing"),
        ("hunter2", "write its digest"),
        ("pm-" + "0" * 48, "write its digest"),
        ("12345678", "write its digest"),
        ("{evn: K}", "did you mean 'env'?"),
        ("{value: hunter2}", "write its digest"),
    ],
)
@pytest.mark.parametrize("place", ["apps.default.keys[0]", "server.admin_key"])
def test_what_is_no_digest_is_one_error_that_shows_no_key(
    written: str, says: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "k")
    if place == "server.admin_key":
        more = f"server: {{admin_key: {written}}}\n"
    else:
        more = f"apps: {{default: {{keys: [{written}]}}}}\n"

    (problem,) = refused(more)

    assert problem.field == place
    assert says in problem.hint
    assert "hunter2" not in problem.shown("f")


@pytest.mark.parametrize("written", ["sha256: " + "0" * 64, "sha256:", "{sha256: x}"])
def test_a_digest_with_a_space_is_told_to_be_one_word(written: str) -> None:
    (problem,) = refused(f"apps: {{default: {{keys: [{written}]}}}}\n")

    assert "without a space" in problem.hint


def test_keys_that_are_no_list_are_told_what_to_write() -> None:
    (problem,) = refused("apps: {default: {keys: {env: K}}}\n")

    assert problem.field == "apps.default.keys"
    assert "keys: [{env: NAME}]" in problem.hint


# -- the verb -----------------------------------------------------------------------------------


def written(path: Path, *keys: object) -> Path:
    apps = {"web": {"keys": list(keys)}, "idle": {}}
    value = {"endpoints": [{"id": "a", "model": "m", "base_url": "http://h/v1"}], "apps": apps}
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def test_a_key_is_made_with_the_line_that_lets_it_in(tmp_path: Path) -> None:
    file = written(tmp_path / "p.yaml", hashed("x"))
    seen = set()
    for arguments in (["--app", "web"], ["--app", "idle"], ["--app", "new"], ["--admin"], []):
        done = pointsman("key", *arguments, "--config", file)
        made, line = done.stdout.splitlines()
        assert done.exit_code == 0
        assert MADE.fullmatch(made)
        assert len(bytes.fromhex(made.removeprefix("pm-"))) * 8 >= 192
        digest = f"sha256:{sha256(made.encode()).hexdigest()}"
        name = "admin_key" if "--admin" in arguments else "keys"
        assert yaml.safe_load(line) == {name: digest if name == "admin_key" else [digest]}
        assert made not in done.stderr
        seen.add(made)
    assert len(seen) == 5
    assert f"{file}:8" in pointsman("key", "--app", "web", "--config", file).stderr
    assert f"apps.idle, {file}:9" in pointsman("key", "--app", "idle", "--config", file).stderr
    assert "did you mean 'idle'?" in pointsman("key", "--app", "idel", "--config", file).stderr


def test_a_key_is_made_without_a_configuration(tmp_path: Path) -> None:
    done = pointsman("key", "--json", "--config", tmp_path / "none.yaml")

    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["line"] == f"keys: [{hashed(found['key'])}]"
    assert hashed(found["key"]).startswith(found["id"])


def test_keys_are_listed_by_where_they_stand_and_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K", "weak")
    literal = "sk-live-abcdefghijk12345"
    file = written(tmp_path / "p.yaml", {"env": "K"}, hashed("x"), literal, {"env": literal}, 3)
    file.write_text(file.read_text() + "colour: red\n")  # whatever else is wrong

    done = pointsman("key", "list", "--config", file)
    found = json.loads(pointsman("key", "list", "--json", "--config", file).stdout)

    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        f"apps.web.keys[0] env:K {file}:8",
        f"apps.web.keys[1] {hashed('x')[:19]} {file}:9",
        f"apps.web.keys[2] … {file}:10",
        f"apps.web.keys[3] … {file}:11",
        f"apps.web.keys[4] … {file}:12",
    ]
    assert [key["line"] for key in found["keys"]] == [8, 9, 10, 11, 12]
    weak = sha256(b"weak").hexdigest()
    for secret in ("weak", weak[:6], literal, hashed("x")):
        assert secret not in done.output + json.dumps(found)


@pytest.mark.parametrize("name", [lambda d: d[:19], lambda d: d[7:13], lambda d: d.upper()])
def test_revoking_names_the_line_and_leaves_the_file_alone(
    name: Callable[[str], str], tmp_path: Path
) -> None:
    file = written(tmp_path / "p.yaml", {"env": "K"}, hashed("x"))
    before = file.read_bytes()

    done = pointsman("key", "revoke", name(hashed("x")), "--config", file)

    assert done.exit_code == 0
    assert f"{file}:9" in done.stdout
    assert "- sha256:" in before.decode().splitlines()[9 - 1]
    assert file.read_bytes() == before


def test_revoking_tells_of_an_apps_last_key_and_refuses_what_names_none_or_many(
    tmp_path: Path,
) -> None:
    twins = [f"sha256:{'a' * 10}{n}{'0' * 53}" for n in (1, 2)]
    file = written(tmp_path / "p.yaml", *twins)
    only = written(tmp_path / "one.yaml", {"env": "K"})

    assert "no other key" in pointsman("key", "revoke", "env:K", "--config", only).stderr
    for id_, says in {"a" * 8: "several", "b" * 8: "no key", "aa": "no key", "": "name"}.items():
        done = pointsman("key", "revoke", id_, "--config", file)
        assert (done.exit_code, done.stdout) == (2, "")
        assert says in done.stderr
    assert pointsman("key", "frobnicate", "--config", file).exit_code == 2
    assert pointsman("key", "--app", "a b", "--config", file).exit_code == 2
    assert pointsman("key", "--app", "a", "--admin", "--config", file).exit_code == 2
    assert pointsman("key", "list", "--config", tmp_path / "none.yaml").exit_code == 2


# -- a running sidecar --------------------------------------------------------------------------


def test_a_reload_lets_the_new_key_in_and_the_old_one_no_more(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "STILL_S", 0.05)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.05)
    file = state_dir / "pointsman.yaml"
    base = {"endpoints": [endpoint(provider, "a")]}
    old, new = (pointsman("key", "--app", "web", "--config", file) for _ in range(2))
    (old_key, old_line), (new_key, new_line) = (
        old.stdout.split("\n")[:2],
        new.stdout.split("\n")[:2],
    )

    def app(*lines: str) -> dict[str, Any]:
        keys = [key for line in lines for key in yaml.safe_load(line)["keys"]]
        return {**base, "apps": {"web": {"keys": keys}}}

    def write(value: dict[str, Any]) -> None:
        server = {"port": 0, "state_dir": str(state_dir)}
        file.write_text(yaml.safe_dump({**value, "server": server, "store": {"shards": SHARDS}}))

    def status(sidecar: Sidecar, key: str) -> int:
        return sidecar.chat(headers={"authorization": f"Bearer {key}"}).status_code

    with serving(app(old_line), state_dir, address, file=file) as sidecar:
        assert (status(sidecar, old_key), status(sidecar, new_key)) == (200, 401)
        write(app(old_line, new_line))
        sidecar.until(lambda: status(sidecar, new_key) == 200)
        assert status(sidecar, old_key) == 200
        id_ = json.loads(old.stdout and pointsman("key", "list", "--json", "--config", file).stdout)
        gone = pointsman("key", "revoke", id_["keys"][0]["id"], "--config", file).stdout
        lines = file.read_text().splitlines()
        del lines[int(gone.rpartition(":")[2]) - 1]
        file.write_text("\n".join(lines))
        sidecar.until(lambda: status(sidecar, old_key) == 401)

        assert status(sidecar, new_key) == 200
        assert all(old_key not in str(c.headers) + str(c.json) for c in provider.calls)
