"""Errors that help: endpoint, setting and fix in the log; no traceback and no secret anywhere."""

from __future__ import annotations

import errno
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import structlog
import yaml
from conftest import (
    Provider,
    Reply,
    Sidecar,
    endpoint,
    free_port,
    outcome_of,
    pointsman,
    serving,
)

from router.config.file import parse
from router.config.masking import masked
from router.dispatch.attempt import AttemptFailed
from router.dispatch.diagnosis import Complaints, diagnose
from router.errors import ConfigError
from router.net.pool import Target
from telemetry import journal
from telemetry.events import Result
from telemetry.journal import Dropped, Journal
from telemetry.store import Address
from telemetry.trouble import trouble_of
from telemetry.writer import Counters, Writer

SECRET = "sk-live-abcdefghijk12345"
CANNOT = "an endpoint cannot be used as it is configured"


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


# -- endpoints ----------------------------------------------------------------------------------


@contextmanager
def answering(what: bytes, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Say the same to whoever connects and says something."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    line, _ = listening.accept()
                except OSError:
                    return
                with line:
                    try:
                        line.settimeout(2)
                        if tls is not None:
                            with tls.wrap_socket(line, server_side=True) as inner:
                                inner.recv(4096)
                            continue
                        line.recv(4096)
                        line.sendall(what)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def asked(
    base_url: str, state_dir: Path, address: Address, **more: Any
) -> tuple[httpx.Response, Sidecar]:
    """Make one call through a sidecar whose one endpoint is there."""
    entry = {"id": "a", "model": "a", "base_url": base_url, **more}
    with serving({"endpoints": [entry]}, state_dir, address) as sidecar:
        return sidecar.chat(), sidecar


def told(said: list[Any]) -> dict[str, Any]:
    lines = [line for line in said if line["event"] == CANNOT]
    assert len(lines) == 1, said
    found: dict[str, Any] = lines[0]
    return found


def check_client_learns_nothing(got: httpx.Response, *words: str) -> None:
    shown = got.text + str(got.headers)
    for word in ("127.0.0.1:", "base_url", "upstream_model", "auth:", SECRET, *words):
        assert word not in shown


def test_a_port_where_nothing_listens(state_dir: Path, address: Address, said: list[Any]) -> None:
    port = free_port()
    got, _ = asked(f"http://127.0.0.1:{port}/v1", state_dir, address)
    line = told(said)
    assert (line["endpoint"], line["setting"]) == ("a", "base_url")
    assert line["address"] == f"127.0.0.1:{port}/v1/chat/completions"
    assert "listens" in line["reason"]
    assert got.status_code == 503
    check_client_learns_nothing(got, str(port))


def test_a_host_that_is_not_known(state_dir: Path, address: Address, said: list[Any]) -> None:
    got, _ = asked("http://no-such-host.invalid/v1", state_dir, address)
    line = told(said)
    assert line["setting"] == "base_url"
    assert "DNS" in line["fix"]
    check_client_learns_nothing(got, "no-such-host")


@pytest.mark.parametrize("what", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-x\r\n", b"\0" * 9])
def test_tls_to_a_port_that_speaks_none(
    state_dir: Path, address: Address, said: list[Any], what: bytes
) -> None:
    with answering(what) as port:
        asked(f"https://127.0.0.1:{port}/v1", state_dir, address)
    line = told(said)
    assert line["setting"] == "base_url"
    assert "http://" in line["fix"]


NGINX = b"<html><title>400 The plain HTTP request was sent to HTTPS port</title></html>"
GO = b"Client sent an HTTP request to an HTTPS server.\n"
ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


@pytest.mark.parametrize("said_back", [NGINX, GO, ALERT])
def test_no_tls_to_a_port_that_speaks_it(
    state_dir: Path, address: Address, said: list[Any], said_back: bytes
) -> None:
    head = b"HTTP/1.1 400 Bad Request\r\ncontent-length: %d\r\n\r\n" % len(said_back)
    with answering(said_back if said_back == ALERT else head + said_back) as port:
        asked(f"http://127.0.0.1:{port}/v1", state_dir, address)
    line = told(said)
    assert line["setting"] == "base_url"
    assert "https://" in line["fix"]


def _self_signed(directory: Path) -> ssl.SSLContext:
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def test_a_certificate_that_nobody_vouches_for(
    state_dir: Path, address: Address, said: list[Any], tmp_path: Path
) -> None:
    with answering(b"", tls=_self_signed(tmp_path)) as port:
        asked(f"https://127.0.0.1:{port}/v1", state_dir, address)
    line = told(said)
    assert "certificate" in line["reason"]
    assert "SSL_CERT_FILE" in line["fix"]


@pytest.mark.parametrize(
    ("status", "body", "setting"),
    [
        (401, b'{"error": {"message": "Incorrect API key provided"}}', "auth"),
        (402, b"", "auth"),
        (403, b"no", "auth"),
        (404, b'{"error": {"code": "model_not_found"}}', "upstream_model"),
        (400, b'{"error": {"code": "model_not_found"}}', "upstream_model"),
        (301, b"", "base_url"),
    ],
)
def test_a_refusal_names_the_setting(
    provider: Provider,
    state_dir: Path,
    address: Address,
    said: list[Any],
    status: int,
    body: bytes,
    setting: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    provider.on("a", Reply(status=status, body=body))
    got, _ = asked(provider.url("a"), state_dir, address, auth={"env": "MY_KEY"})
    line = told(said)
    assert (line["setting"], line["status"]) == (setting, status)
    assert SECRET not in str(said)
    check_client_learns_nothing(got)


def test_what_no_setting_would_mend_blames_none(
    provider: Provider, state_dir: Path, address: Address, said: list[Any]
) -> None:
    provider.on("a", Reply(status=503))
    asked(provider.url("a"), state_dir, address)
    assert {line["event"] for line in said if "endpoint" in line} == {"attempt failed"}


def test_a_code_that_repeats_key_or_prompt_is_not_logged(
    provider: Provider, state_dir: Path, address: Address, said: list[Any]
) -> None:
    error = {"error": {"message": "no", "type": "server_error", "code": f"Bearer {SECRET}"}}
    provider.on("a", Reply(status=500, body=json.dumps(error).encode()))
    asked(provider.url("a"), state_dir, address)

    (line,) = [line for line in said if line["event"] == "attempt failed"]
    assert line["detail"] == "status 500"
    assert SECRET not in str(said)


def test_the_address_is_the_one_that_was_called(
    provider: Provider, state_dir: Path, address: Address, said: list[Any]
) -> None:
    provider.on("a", Reply(status=404, body=b'{"error": {"message": "no route"}}'))
    entry = {"id": "a", "model": "a", "base_url": provider.url("a")}
    value = {"endpoints": [{**entry, "dialects": ["chat", "responses"]}]}
    with serving(value, state_dir, address) as sidecar:
        sidecar.http.post("/v1/responses", json={"model": "a", "input": "hi"})

    assert told(said)["address"] == f"127.0.0.1:{provider.port}/a/v1/responses"


def test_an_address_is_shown_without_user_and_query() -> None:
    target = Target.of(httpx.URL(f"https://user:{SECRET}@host/v1/chat?key={SECRET}"))
    with structlog.testing.capture_logs() as lines:
        Complaints().say("a", target, ConnectionRefusedError())
    assert lines[0]["address"] == "host:443/v1/chat"
    assert SECRET not in str(lines)


def test_one_line_a_minute_says_how_many_it_stands_for() -> None:
    now = [100.0]
    complaints = Complaints(clock=lambda: now[0])
    target = Target.of(httpx.URL("http://host/v1"))
    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            complaints.say("a", target, ConnectionRefusedError())
        complaints.say("b", target, ConnectionRefusedError())
        complaints.say("a", target, AttemptFailed(Result.SERVER, "status 503", status=503))
        now[0] += 61
        complaints.say("a", target, ConnectionRefusedError())
    assert [(line["endpoint"], line.get("held_back", 0)) for line in lines] == [
        ("a", 0),
        ("b", 0),
        ("a", 0),
        ("a", 4),
    ]


@pytest.mark.parametrize("number", [errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_a_network_without_a_way(number: int) -> None:
    found = diagnose(OSError(number, "no way"), tls=False)
    assert found is not None
    assert found.setting == "base_url"


def test_a_passed_call_that_finds_nobody_is_logged_as_well(
    provider: Provider, state_dir: Path, address: Address, said: list[Any]
) -> None:
    gone = {"base_url": f"http://127.0.0.1:{free_port()}/v1", "passthrough": True}
    value = {"endpoints": [endpoint(provider, "a")], "providers": {"prov": gone}}
    with serving(value, state_dir, address) as sidecar:
        got = sidecar.chat(model="unlisted")
    assert told(said)["endpoint"] == "prov"
    assert got.status_code == 503
    assert "127.0.0.1" not in got.text


# -- keys in the file ---------------------------------------------------------------------------

AUTH = "endpoints:\n  - {id: a, model: a, base_url: 'http://h/v1', auth: %s}\n"
BASE = "endpoints:\n  - {id: a, model: a, base_url: 'http://h/v1'}\n"
URL = "endpoints:\n  - {id: a, model: a, base_url: '%s'}\n"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (AUTH % SECRET, "endpoints[0].auth"),
        (AUTH % "hunter2", "endpoints[0].auth"),
        (AUTH % "1234567890123", "endpoints[0].auth"),
        (AUTH % f"{{env: {SECRET}}}", "endpoints[0].auth.env"),
        (AUTH % "{env: hunter2}", "endpoints[0].auth.env"),
        (AUTH % f"{{env: [{SECRET}]}}", "endpoints[0].auth.env"),
        (AUTH % f"{{file: {SECRET}}}", "endpoints[0].auth.file"),
        (AUTH % f"{{key: {SECRET}}}", "endpoints[0].auth"),
        (AUTH % f"{{{SECRET}}}", "endpoints[0].auth"),
        (AUTH % f"[{SECRET}]", "endpoints[0].auth"),
        (AUTH % f"{{env: X, file: {SECRET}}}", "endpoints[0].auth"),
        (AUTH % f"*{SECRET}", "yaml"),
        (BASE + f"providers: {{p: {{auth: {SECRET}}}}}", "providers.p.auth"),
        (BASE + f"server: {{admin_key: {SECRET}}}", "server.admin_key"),
        (BASE + f"server: {{admin_key: {{env: {SECRET}}}}}", "server.admin_key.env"),
        (BASE + "server: {admin_key: hunter2}", "server.admin_key"),
        (BASE + f"server: {{seal_secret: {SECRET}}}", "server.seal_secret"),
        (BASE + f"server: {{seal_secret: {{env: {SECRET}}}}}", "server.seal_secret.env"),
        (BASE + "server: {seal_secret_before: hunter2}", "server.seal_secret_before"),
        (BASE + f"apps: {{default: {{keys: [{SECRET}]}}}}", "apps.default.keys[0]"),
        (BASE + "apps: {default: {keys: [hunter2]}}", "apps.default.keys[0]"),
        (BASE + f"apps: {{default: {{keys: {SECRET}}}}}", "apps.default.keys"),
        (BASE + f"apps: {{default: {{keys: [{{value: {SECRET}}}]}}}}", "apps.default.keys[0]"),
        (BASE + "store: {url: 'redis://:hunter2@h/0'}", "store.url"),
        (BASE + "store: {url_env: 'redis://:hunter2@h/0'}", "store.url_env"),
        (BASE + "store: 'redis://:hunter2@h/0'", "store"),
        (URL % "http://u:hunter2@h/v1?key=hunter2", "endpoints[0].base_url"),
        (URL % "ftp://u:hunter2@h/v1", "endpoints[0].base_url"),
        (URL % f"http://h/v1?api_key={SECRET}", "endpoints[0].base_url"),
    ],
)
def test_a_key_in_the_file_is_named_by_its_place_and_never_shown(
    text: str, field: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text, file="f")
    assert field in {problem.field for problem in error.value.problems}
    file = tmp_path / "pointsman.yaml"
    file.write_text(text)
    for more in ([], ["--json"]):
        shown = pointsman("check", "--config", file, *more)
        assert shown.exit_code == 2
        for secret in (SECRET, "hunter2", "1234567890123"):
            assert secret not in shown.output + str(error.value)


def test_of_a_wrong_mapping_nothing_is_shown_that_stands_in_it() -> None:
    """Beside what is wrong in it stands what is right, and that may be a key."""
    params = "{model: x, headers: {authorization: kept1between2us}}"
    text = AUTH.replace("auth: %s", f"params: {params}")

    with pytest.raises(ConfigError) as error:
        parse(text, file="f")

    assert "endpoints[0].params: a mapping: " in str(error.value)
    assert "kept1between2us" not in str(error.value)


def test_the_fix_of_a_literal_key_says_where_it_belongs() -> None:
    with pytest.raises(ConfigError, match=r"f:2: endpoints\[0\].auth: …: .*\{env: NAME\}"):
        parse(AUTH % SECRET, file="f")


@pytest.mark.parametrize(
    "text",
    [
        "no such model 'claude-3-5-sonnet-20241022'; did you mean 'gpt-4o-mini-2024-07-18'?",
        "environment variable OPENAI_API_KEY_2 is not set; export it",
        "write a whole URL, such as https://api.openai.com/v1",
        "'meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo'",
    ],
)
def test_names_of_things_are_shown(text: str) -> None:
    assert masked(text) == text


# -- the state directory ------------------------------------------------------------------------

VERBS = (["up"], ["serve"], ["work"], ["off"], ["on"], ["audit", "state"], ["restore"])
NEVER_REFUSING = ("off", "on")


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb[0])
@pytest.mark.parametrize("kind", ["a file", "below a file", "not to be made", "read-only"])
def test_a_state_directory_that_cannot_be_used_is_one_line(
    verb: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    path = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "state",
        "not to be made": Path("/proc/pointsman/state"),
        "read-only": tmp_path / "locked",
    }[kind]
    if kind == "read-only":
        path.mkdir(mode=0o500)
        _refuse_writes(monkeypatch, path)
    file = tmp_path / "pointsman.yaml"
    server = {"port": free_port(), "state_dir": str(path)}
    entry = {"id": "a", "model": "a", "base_url": "http://127.0.0.1:1/v1"}
    file.write_text(yaml.safe_dump({"server": server, "endpoints": [entry]}))
    shown = pointsman(*verb, "--config", file)
    assert shown.exit_code == (1 if verb[0] in NEVER_REFUSING else 2)
    lines = shown.output.strip().splitlines()
    assert len(lines) == 1
    assert "server.state_dir" in lines[0]
    assert str(path) in lines[0] or str(path.parent) in lines[0]
    assert lines[0].count(": ") >= 3  # field, path, reason, fix


def _refuse_writes(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """A directory's mode does not bind root, who runs tests in containers."""
    if os.geteuid():
        return
    open_file = os.open

    def refuse(path: Any, flags: int, *mode: int, **more: Any) -> int:
        name = str(path)
        if name.startswith(str(directory)) and flags & (os.O_WRONLY | os.O_RDWR):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), name)
        return open_file(path, flags, *mode, **more)

    def touch(self: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(Path, "touch", touch)
    monkeypatch.setattr(Path, "unlink", touch)


@pytest.mark.slow
def test_a_journal_that_cannot_be_opened_leaves_no_traceback(
    state_dir: Path, tmp_path: Path
) -> None:
    (state_dir / "journal").write_text("a file")
    file = tmp_path / "pointsman.yaml"
    server = {"port": free_port(), "state_dir": str(state_dir)}
    entry = {"id": "a", "model": "a", "base_url": "http://127.0.0.1:1/v1"}
    file.write_text(yaml.safe_dump({"server": server, "endpoints": [entry]}))
    command = [sys.executable, "-m", "router.cli", "serve", "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert "server.state_dir" in ended.stderr


# -- a full disk, a full store ------------------------------------------------------------------


def test_a_full_disk_is_said_with_path_and_fix_and_what_is_lost_is_counted(
    tmp_path: Path, said: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Journal(tmp_path, 2, segment_bytes=1024)
    kept.open()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal, "_allocate", full)
    monkeypatch.setattr(journal, "FULL_REST_S", 0.0)
    safe = [kept.append(outcome_of(number)) for number in range(20)]
    kept.close()
    lines = [line for line in said if "journal cannot be written" in line["event"]]
    assert len(lines) == 1
    assert lines[0]["path"] == str(kept.directory)
    assert lines[0]["reason"] == os.strerror(errno.ENOSPC)
    assert "room" in lines[0]["fix"]
    assert kept.dropped[Dropped.DISK] == safe.count(False) > 0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (redis.exceptions.OutOfMemoryError("command not allowed"), "maxmemory"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "disk"),
        (redis.exceptions.ReadOnlyError("You can't write against a read only replica."), "primary"),
        (redis.exceptions.NoPermissionError("this user has no permissions"), "right"),
        (redis.exceptions.AuthenticationError("Authentication required."), "password"),
        (redis.ResponseError("OOM command not allowed when used memory"), "maxmemory"),
        (redis.ResponseError("NOREPLICAS Not enough good replicas to write."), "replicas"),
        (
            redis.ResponseError("Command # 1 (XADD s) of pipeline caused error: MISCONF Errors"),
            "disk",
        ),
        (redis.ResponseError("ERR something else"), "log"),
    ],
)
def test_a_store_that_takes_nothing_is_told_from_one_that_is_away(
    error: Exception, says: str, tmp_path: Path, said: list[Any]
) -> None:
    found = trouble_of(error)
    assert found.answers
    assert says in found.shown
    writer = Writer(tmp_path, Address("redis://127.0.0.1:1"), 2, Counters())
    writer._note(up=False, error=error)
    writer._note(up=False, error=error)
    writer._note(up=False, error=redis.ConnectionError())
    writer._note(up=True)
    assert [line["event"].split(":")[0] for line in said] == [
        "store takes nothing",
        "store is away",
        "store is back",
    ]
