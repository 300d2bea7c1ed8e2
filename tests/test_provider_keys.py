"""Keys of endpoints: from a command or a file, renewed while calls go on, and never shown."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, Sidecar, default_reply, endpoint, pointsman, serving, until
from structlog.testing import capture_logs

from router.config.compiled import Configuration, compile_text
from router.config.reload import take
from router.endpoints import keys, upkeep
from router.endpoints.breaker import Trouble
from router.endpoints.health import Health
from router.endpoints.key_command import run_key_command
from router.errors import ConfigError
from telemetry.events import Result
from telemetry.store import Address

SECRET = "tok-3f9a77c1"


def printing(what: str) -> list[str]:
    return [sys.executable, "-c", f"print({what!r})"]


def counting(at: Path, text: str = "tok") -> list[str]:
    """A command that prints another key each time, and says how often it ran by a file's length."""
    code = f"p={str(at)!r}; open(p, 'a').write('x'); print({text!r} + str(len(open(p).read())))"
    return [sys.executable, "-c", code]


def configured(auth: Any, n: int = 1, **more: Any) -> Configuration:
    listed = [
        {"id": f"e{i}", "model": "m", "base_url": f"http://h{i}/v1", "auth": auth} for i in range(n)
    ]
    return compile_text(yaml.safe_dump({"endpoints": listed, **more}), file="t.yaml")


def problems(auth: Any, **more: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        configured(auth, **more)
    return [p.shown("t.yaml") for p in caught.value.problems]


def headers(found: Configuration) -> list[bytes]:
    return [e.auth_header[1] for e in found.catalog.endpoints if e.auth_header]


# -- commands -----------------------------------------------------------------------------------


def test_a_command_is_run_once_for_all_that_sign_in_by_it(tmp_path: Path) -> None:
    found = configured({"command": counting(tmp_path / "n")}, n=3)

    assert headers(found) == [b"Bearer tok1"] * 3


def test_no_shell_reads_a_command() -> None:
    words = [sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME;`id`|x"]

    assert run_key_command(words) == "$HOME;`id`|x"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("pass", "prints nothing"),
        ("print('tok'); raise SystemExit(3)", "ended with 3"),
        ("print('x' * 100_000)", "prints more than"),
        ("import time; time.sleep(60)", "takes longer than"),
        ("import os, time; os.close(1); time.sleep(60)", "takes longer than"),
        ("import time\nwhile True: print('x', flush=True); time.sleep(.05)", "takes longer than"),
    ],
)
def test_a_command_is_bounded_in_time_and_output_and_its_words_are_not_repeated(
    code: str, says: str
) -> None:
    began = time.monotonic()

    with pytest.raises(LookupError) as caught:
        run_key_command([sys.executable, "-c", code], most_s=1.0)

    assert says in str(caught.value)
    assert "tok" not in str(caught.value)
    assert time.monotonic() - began < 5


def test_what_a_command_has_started_ends_with_it(tmp_path: Path) -> None:
    """One that leaves another process behind, which keeps the output open, holds up nobody."""
    code = (
        "import os, time\nif os.fork() == 0:\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)\n"
        "print('tok', flush=True)"
    )
    with pytest.raises(LookupError, match="takes longer"):
        run_key_command([sys.executable, "-c", code], most_s=1.0)

    pid = int((tmp_path / "pid").read_text())
    until(lambda: not _is_alive(pid))


def _is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("argv", [["/no/such/program"], ["\0"]])
def test_what_cannot_be_run_is_told(argv: list[str]) -> None:
    with pytest.raises(LookupError, match="cannot be run"):
        run_key_command(argv)


def test_a_command_is_run_again_when_it_is_due_and_each_sender_has_the_new_key(
    tmp_path: Path,
) -> None:
    found = configured({"command": counting(tmp_path / "n"), "refresh_s": 100}, n=2)
    ring, now = found.catalog.keys, time.monotonic()

    assert not ring.look(now + 90)
    assert ring.look(now + 101)
    assert headers(found) == [b"Bearer tok2"] * 2
    assert not ring.look(now + 102)


def test_the_last_good_key_stays_while_a_command_fails_and_the_log_holds_none(
    tmp_path: Path,
) -> None:
    flag = tmp_path / "broken"
    code = f"import os; print({SECRET!r}); raise SystemExit(os.path.exists({str(flag)!r}))"
    found = configured({"command": [sys.executable, "-c", code], "refresh_s": 100})
    ring, now = found.catalog.keys, time.monotonic()
    flag.touch()

    with capture_logs() as logged:
        assert not ring.look(now + 101)
        assert not ring.look(now + 102), "it is left alone for a while"
        flag.unlink()
        assert not ring.look(now + 140), "it works again, and the key is the same"

    assert headers(found) == [f"Bearer {SECRET}".encode()]
    assert [line["log_level"] for line in logged] == ["warning"]
    assert "ended with 1" in logged[0]["why"]
    assert SECRET not in str(logged)


def test_a_reload_keeps_what_a_command_printed(tmp_path: Path) -> None:
    found = configured({"command": counting(tmp_path / "n")})
    text = yaml.safe_dump(
        {
            "endpoints": [
                {
                    "id": "other",
                    "model": "m",
                    "base_url": "http://o/v1",
                    "auth": {"command": counting(tmp_path / "n")},
                }
            ]
        }
    )

    taken = take(text, file="t.yaml", running=found)

    assert headers(taken.configuration) == [b"Bearer tok1"]


def test_check_runs_no_command_and_knows_one_that_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    one = {"id": "a", "model": "m", "base_url": "http://h/v1"}
    one["auth"] = {"command": counting(tmp_path / "n")}  # type: ignore[assignment]
    file.write_text(yaml.safe_dump({"endpoints": [one], "server": {"state_dir": str(tmp_path)}}))

    assert pointsman("check", "--config", file).exit_code == 0
    assert pointsman("catalog", "--config", file).exit_code == 0
    assert not (tmp_path / "n").exists()
    assert "no-such-program is no program" in problems({"command": ["no-such-program"]})[0]


def test_a_command_that_fails_at_the_start_is_a_problem_of_the_file() -> None:
    found = problems({"command": [sys.executable, "-c", f"print({SECRET!r}); exit(1)"]})

    assert len(found) == 1
    assert "ended with 1" in found[0]
    assert SECRET not in found[0]


@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ({"command": []}, "as a list, which no shell reads"),
        ({"command": "gcloud auth print-access-token"}, "as a list, which no shell reads"),
        ({"command": ["sh"], "env": "K"}, "exactly one of env, file and command"),
        ({"env": "PATH", "refresh_s": 5}, "refresh_s says how often a command is run"),
        ({"command": ["sh"], "refresh_s": 0}, "refresh_s"),
        ({"sigv4": {"region": "us-east-1"}}, "AWS_BEARER_TOKEN_BEDROCK"),
        ({"aws_sigv4": True}, "AWS_BEARER_TOKEN_BEDROCK"),
        ({"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"}, "AWS_BEARER_TOKEN_BEDROCK"),
        ("sigv4", "AWS_BEARER_TOKEN_BEDROCK"),
        ({"service_account": "x.json"}, "gcloud, auth, print-access-token"),
        ({"azure_ad": True}, "get-access-token"),
        ({"Azure_AD": True}, "get-access-token"),
        ({"AWS_PROFILE": "x"}, "AWS_BEARER_TOKEN_BEDROCK"),
    ],
)
def test_a_way_to_sign_in_that_there_is_not_is_refused_with_what_to_use(
    auth: Any, says: str
) -> None:
    found = problems(auth)

    assert len(found) == 1, found
    assert says in found[0]
    assert "AKIA" not in found[0]


def test_a_key_that_was_written_into_a_command_is_not_repeated() -> None:
    found = problems({"command": ["echo", "sk-live-0123456789abcdef"]})

    assert len(found) == 1
    assert "a key never stands in this file" in found[0]
    assert "0123456789" not in found[0]


@pytest.mark.parametrize("place", ["keys", "admin_key", "seal_secret", "seal_secret_before"])
def test_only_keys_of_endpoints_come_from_commands_and_no_other_is_run(
    place: str, tmp_path: Path
) -> None:
    key = {"command": counting(tmp_path / "n")}
    of_app, of_server = {"apps": {"default": {"keys": [key]}}}, {"server": {place: key}}

    (found,) = problems("none", **(of_app if place == "keys" else of_server))

    assert "only endpoints take their keys from a command" in found
    assert not (tmp_path / "n").exists()


def test_a_misspelt_command_is_one_error_and_is_not_run(tmp_path: Path) -> None:
    (found,) = problems({"comand": counting(tmp_path / "n"), "refresh_s": 100})

    assert "did you mean 'command'?" in found
    assert not (tmp_path / "n").exists()


# -- files --------------------------------------------------------------------------------------


def rewrite(file: Path, text: str) -> None:
    """As a secret that is mounted is: another file under the same name."""
    fresh = file.with_suffix(".new")
    fresh.write_text(text)
    os.replace(fresh, file)


def test_a_file_is_read_again_when_it_changes_and_never_for_nothing(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("one\n")
    found = configured({"file": str(file), "header": "x-api-key"})
    ring = found.catalog.keys

    assert not ring.look(0.0)
    rewrite(file, "two\n")
    assert ring.look(1.0)
    assert headers(found) == [b"two"]
    assert not ring.look(2.0)


@pytest.mark.parametrize("broken", ["", "zwei\nZeilen", "schlüssel"])
def test_the_last_good_key_stays_while_its_file_is_broken(tmp_path: Path, broken: str) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    found = configured({"file": str(file)})
    ring = found.catalog.keys
    rewrite(file, broken)

    with capture_logs() as logged:
        assert not ring.look(1.0)
        assert not ring.look(2.0)
        file.unlink()
        assert not ring.look(3.0)

    assert headers(found) == [b"Bearer one"]
    assert len(logged) == 2, "once for each change"
    rewrite(file, "two")
    assert ring.look(4.0)
    assert headers(found) == [b"Bearer two"]


# -- while calls go on --------------------------------------------------------------------------


def test_a_running_sidecar_takes_a_new_key_without_a_reload(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(keys, "RETRY_S", 0.05)
    file = state_dir / "key"
    file.write_text("one")
    by_file = endpoint(provider, "f", auth={"file": str(file)})
    command = counting(state_dir / "n")
    by_command = endpoint(provider, "c", auth={"command": command, "refresh_s": 1})
    with serving({"endpoints": [by_file, by_command]}, state_dir, address) as sidecar:
        sidecar.chat("f")
        sidecar.chat("c")
        before = [call.headers["authorization"] for call in provider.calls]
        rewrite(file, "two")

        def sent(name: str) -> str:
            sidecar.chat(name)
            return provider.calls[-1].headers["authorization"]

        until(lambda: sent("f") == "Bearer two")
        until(lambda: sent("c") != "Bearer tok1")

    assert before == ["Bearer one", "Bearer tok1"]


def test_a_new_key_opens_what_the_old_one_was_refused_for_and_leaves_the_rest_alone(
    tmp_path: Path,
) -> None:
    file = tmp_path / "key"
    file.write_text("one")
    found = configured({"file": str(file)})
    digest, health = found.catalog.endpoints[0].digest, Health()
    health.follow(found.catalog, 0.0)
    for result in (Result.REFUSED, *[Result.SERVER] * 5):
        health.begin(digest, 1.0)
        health.end(digest, result, 1.0)
    rewrite(file, "two")

    health.renew_keys(found.catalog, 2.0)
    unchanged = health.breakers[digest].circuits[Trouble.MISCONFIGURED].open_since
    found.catalog.keys.look(2.0)
    health.renew_keys(found.catalog, 2.0)

    circuits = health.breakers[digest].circuits
    assert unchanged is not None
    assert circuits[Trouble.MISCONFIGURED].open_since is None
    assert circuits[Trouble.FAILING].open_since is not None


def is_renewed(sidecar: Sidecar) -> bool:
    key = sidecar.app.keeper.current.configuration.catalog.by_id["a"].key
    return key is not None and key.header[1] == b"Bearer tok2"


def test_a_key_that_is_refused_is_renewed_before_it_is_due(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(keys, "RETRY_S", 0.0)

    def reply(call: Any) -> Reply:
        refused = Reply(401, b'{"error": {"message": "it has expired"}}')
        return refused if call.headers["authorization"] == "Bearer tok1" else default_reply(call)

    provider.on("a", reply)
    auth = {"command": counting(state_dir / "n"), "refresh_s": 3600}
    with serving(
        {"endpoints": [endpoint(provider, "a", auth=auth)]}, state_dir, address
    ) as sidecar:
        assert sidecar.chat("a").status_code >= 400
        until(lambda: is_renewed(sidecar))  # meanwhile nobody sends: it would be doubted again
        assert sidecar.chat("a").status_code == 200
        breaker = sidecar.app.health.breakers[sidecar.digest("a")]

        assert breaker.open_since is None
    assert len((state_dir / "n").read_text()) == 2, "and not again"


def expired(call: Any) -> Reply:
    """Refuse the first key that a command prints, and take every later one."""
    if call.headers["authorization"] == "Bearer tok1":
        return Reply(401, b'{"error": {"type": "authentication_error", "message": "expired"}}')
    return Reply(body=b'{"input_tokens": 7}')


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/files"])
def test_a_key_that_is_refused_where_nothing_is_routed_is_renewed_before_it_is_due(
    provider: Provider,
    state_dir: Path,
    address: Address,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
) -> None:
    """A count of tokens goes to an endpoint, a path that no endpoint lists to a provider."""
    monkeypatch.setattr(upkeep, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(keys, "RETRY_S", 0.0)
    provider.on("a", expired)
    auth = {"command": counting(state_dir / "n"), "refresh_s": 3600}
    at = {"base_url": provider.url("a"), "auth": auth, "passthrough": True}
    one = {"id": "a", "model": "a", "provider": "p", "dialects": ["messages"]}
    value = {"endpoints": [one], "providers": {"p": at}}
    body = {"model": "a", "messages": [{"role": "user", "content": "hello"}]}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.http.post(path, json=body).status_code >= 400
        until(lambda: is_renewed(sidecar))
        assert sidecar.http.post(path, json=body).status_code == 200

    assert len((state_dir / "n").read_text()) == 2, "and not again"


def test_a_key_of_a_provider_is_left_alone_where_a_path_is_not_there(
    provider: Provider, state_dir: Path, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys, "RETRY_S", 0.0)
    provider.on("a", Reply(404, b"{}"))
    auth = {"command": counting(state_dir / "n"), "refresh_s": 3600}
    at = {"base_url": provider.url("a"), "auth": auth, "passthrough": True}
    value = {"endpoints": [endpoint(provider, "b")], "providers": {"p": at}}
    with serving(value, state_dir, address) as sidecar:
        assert sidecar.http.get("/v1/files").status_code == 404
        catalog = sidecar.app.keeper.current.configuration.catalog

        assert not catalog.keys.look(time.monotonic() + 1)


def test_a_key_that_is_refused_again_and_again_is_not_asked_for_all_the_time(
    tmp_path: Path,
) -> None:
    found = configured({"command": counting(tmp_path / "n"), "refresh_s": 3600})
    ring, key, now = found.catalog.keys, found.catalog.endpoints[0].key, time.monotonic()
    assert key is not None

    for passed in range(0, 100, 5):
        key.doubt()
        ring.look(now + passed)

    assert len((tmp_path / "n").read_text()) == 1 + 3
