"""Addresses, paths and homes are taken as meant or refused by name; a store in trouble says why."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import redis
import structlog
import yaml
from conftest import (
    LEARN,
    ROUTED,
    SHARDS,
    Provider,
    Server,
    endpoint,
    free_port,
    learning,
    listening,
    pointsman,
    servers,
    serving,
    until,
)
from hypothesis import given
from hypothesis import strategies as st
from test_engines import ENGINES, program_of

from telemetry import keys
from telemetry.address import parse_topology, unix_url
from telemetry.embedded import PrivateServer
from telemetry.errors import StoreUnavailable
from telemetry.store import (
    Address,
    StoreErrors,
    connect,
    connect_async,
    open_store,
    parse_address,
    probe,
)
from telemetry.trouble import TABLE, trouble_of

ODD = "a b=c#d?e%f%20g&ü'\"$;[x]*{y}"
"""Every character that an address, a list of clients or a shell gives a meaning of its own."""


@pytest.fixture
def said() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


# -- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("redis://host/0?decode_responses=true", "unknown option 'decode_responses'; known: db, "),
        ("redis://host?foo=bar", "unknown option 'foo'; known: db, username, password"),
        ("redis://host?protocol=3", "unknown option 'protocol'"),
        ("redis://host/0?pw", "it has an unknown option; known: db"),
        ("redis://host/00000000099999999999", "is not the number of a database"),
        ("redis://host?socket_timeout=9", "unknown option 'socket_timeout'"),
        ("redis://host?ssl_cert_reqs=none", "ssl_cert_reqs is for TLS, which takes the scheme"),
        ("rediss://host?ssl_cert_reqs=never", "ssl_cert_reqs='never' is none of required"),
        ("rediss://host?ssl_check_hostname=no", "neither true nor false"),
        ("rediss://host?ssl_ca_certs=/no/such", "ssl_ca_certs='/no/such' is no file that can be"),
        ("redis://host?db=abc", "db='abc' is not the number of a database"),
        ("redis://host?db=-1", "db='-1' is not the number"),
        ("redis://host?db=", "option db has no value"),
        ("redis://host?db=1&db=2", "it has two of db"),
        ("redis://host/1?db=2", "stands in the path and in an option"),
        ("redis://host/abc", "'abc' is not the number of a database"),
        ("redis://host/1/2", "'1/2' is not the number of a database"),
        ("redis://host/²", "'²' is not the number of a database"),
        ("redis://:/pw@host", "must be percent-encoded"),
        ("redis://:p#w@host", "must be percent-encoded"),
        ("redis://:p?w@host", "must be percent-encoded"),
        ("redis://host#pw", "must be percent-encoded"),
        ("redis://", "a host is missing"),
        ("redis://:pw@", "a host is missing"),
        ("redis:///0", "a host is missing"),
        ("redis://host:0", "no number from 1 to 65535"),
        ("redis://host:70000", "no number from 1 to 65535"),
        ("redis://[pw", "a host cannot be read"),
        ("redis://a,b", "several hosts"),
        ("redis://ho st", "a space or a control character"),
        ("redis://%ff:x@host", "the user is not UTF-8"),
        ("redis://u:pw@host?password=wp", "it has two of password"),
        ("unix://", "the path is missing"),
        ("unix://tmp/store.sock", "a unix socket has none"),
        ("unix:///" + "x" * 107, "longer than the"),
        ("redis+sentinel://[pw/main", "a host cannot be read"),
        ("redis+sentinel://a/main/x", "'main/x' is not a service and the number"),
        ("redis+sentinel://a/main?db=x", "db='x' is not the number"),
        ("redis+cluster://a?db=1", "unknown option 'db'; known: none"),
        ("rediss+cluster://a?db=1", "known: ssl_cert_reqs"),
    ],
)
def test_what_an_address_cannot_say_is_refused_by_name(url: str, what: str) -> None:
    with pytest.raises(StoreUnavailable) as caught:
        parse_address(url, named="THE_URL")

    said = str(caught.value)
    assert said.startswith("THE_URL: ")
    assert what in said
    assert f"write {url.partition('://')[0]}://" in said
    assert "pw" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("url", "given"),
    [
        ("redis://host", {"host": "host", "port": 6379, "db": 0}),
        ("redis://host:/", {"host": "host", "port": 6379, "db": 0}),
        (" REDIS://[::1]:7/3\n", {"host": "::1", "port": 7, "db": 3}),
        ("redis://host?db=4", {"db": 4}),
        ("redis://us%2Fer:p%40s%2Fs@host", {"username": "us/er", "password": "p@s/s"}),
        ("redis://:pw@host", {"password": "pw"}),
        ("unix:///tmp/a%20b%3F%23.sock?db=2&password=p%26", {"path": "/tmp/a b?#.sock", "db": 2}),
        ("rediss://host?ssl_cert_reqs=none", {"ssl_cert_reqs": "none"}),
        ("rediss://host?ssl_check_hostname=false", {"ssl_check_hostname": False}),
        (f"rediss://host?ssl_ca_certs={__file__}", {"ssl_ca_certs": __file__}),
    ],
)
def test_what_an_address_says_is_what_both_kinds_of_client_are_given(
    url: str, given: dict[str, Any]
) -> None:
    pools = (
        connect(parse_address(url)).connection_pool,
        connect_async(parse_address(url), timeout_s=1).connection_pool,
    )

    for pool in pools:
        assert given.items() <= pool.connection_kwargs.items()
        assert pool.make_connection() is not None if pool is pools[0] else True
        assert ("SSL" in pool.connection_class.__name__) is ("rediss" in url)


def test_options_of_tls_reach_the_clients_of_a_cluster_and_of_sentinels() -> None:
    found = parse_topology("rediss+cluster://a?ssl_cert_reqs=none")
    assert found.tls == {"ssl_cert_reqs": "none"}
    nodes = connect_async(parse_address("rediss+cluster://a?ssl_cert_reqs=none"), timeout_s=1)
    assert nodes.connection_kwargs["ssl_cert_reqs"] == "none"

    url = "rediss+sentinel://a/main?db=3&ssl_cert_reqs=none&sentinel_password=x"
    pool = connect(parse_address(url)).connection_pool
    assert pool.connection_kwargs["ssl_cert_reqs"] == "none"
    assert pool.connection_kwargs["db"] == 3
    sentinel = pool.sentinel_manager.sentinels[0].connection_pool.connection_kwargs
    assert (sentinel["ssl_cert_reqs"], sentinel["password"]) == ("none", "x")


@given(
    st.sampled_from(["redis", "rediss", "unix", "redis+sentinel", "rediss+cluster", "x", ""]),
    st.text(st.sampled_from("ah:/@?#[]%,=&0 \n²é.-"), max_size=12) | st.text(max_size=12),
)
def test_any_text_is_an_address_or_refused_in_one_line(scheme: str, rest: str) -> None:
    try:
        found = parse_topology(f"{scheme}://{rest}")
    except StoreUnavailable as error:
        assert "\n" not in str(error)  # noqa: PT017 - most texts are none, some are
        return
    assert found.path or all(host and 0 < port < 65536 for host, port in found.hosts)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_any_path_of_a_socket_survives_its_address(name: str) -> None:
    path = f"/tmp/{name[:20]}"
    assert parse_topology(unix_url(path)).path == path


def test_a_path_that_is_no_text_survives_its_address() -> None:
    path = os.fsdecode(b"/tmp/\xff.sock")
    assert parse_topology(unix_url(path)).path == path


# -- why a store is away ------------------------------------------------------------------------

SECRET = "s3cret-password"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("tls")
    key, found = root / "key.pem", root / "certificate.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    command += ["-keyout", str(key), "-out", str(found)]
    subprocess.run(command, check=True, capture_output=True)
    return key, found


@pytest.fixture
def start(state_dir: Path) -> Iterator[Callable[..., Server]]:
    with servers(state_dir) as found:
        yield found


def no_password(start: Callable[..., Server]) -> str:
    return f"redis://127.0.0.1:{start(requirepass=SECRET).port}"


def wrong_password(start: Callable[..., Server]) -> str:
    return f"redis://:{SECRET}-2@127.0.0.1:{start(requirepass=SECRET).port}"


def unknown_user(start: Callable[..., Server]) -> str:
    return f"redis://me:{SECRET}@127.0.0.1:{start().port}"


def _user(start: Callable[..., Server], *rights: str) -> str:
    server = start()
    server.client.execute_command("ACL", "SETUSER", "me", "on", f">{SECRET}", *rights)
    return f"redis://me:{SECRET}@127.0.0.1:{server.port}"


def no_scripts(start: Callable[..., Server]) -> str:
    return _user(start, "~*", "&*", "+@all", "-@scripting")


def no_writes(start: Callable[..., Server]) -> str:
    return _user(start, "~*", "&*", "+@read", "+@connection", "+@scripting")


def other_keys(start: Callable[..., Server]) -> str:
    return _user(start, "~other:*", "&*", "+@all")


def far_database(start: Callable[..., Server]) -> str:
    return f"redis://127.0.0.1:{start().port}/99"


def _node(start: Callable[..., Server]) -> Server:
    return start(cluster_enabled="yes", cluster_port=str(free_port()))


def node_of_a_cluster(start: Callable[..., Server]) -> str:
    return f"redis://127.0.0.1:{_node(start).port}"


def no_cluster(start: Callable[..., Server]) -> str:
    return f"redis+cluster://127.0.0.1:{start().port}"


def cluster_with_wrong_password(start: Callable[..., Server]) -> str:
    return f"redis+cluster://:{SECRET}-2@127.0.0.1:{start(requirepass=SECRET).port}"


def no_sentinel(start: Callable[..., Server]) -> str:
    return f"redis+sentinel://127.0.0.1:{start().port}/main"


def sentinels_away(start: Callable[..., Server]) -> str:
    return f"redis+sentinel://:{SECRET}@127.0.0.1:{free_port()}/main?sentinel_password={SECRET}"


def full_memory(start: Callable[..., Server]) -> str:
    server = start()
    server.client.config_set("maxmemory", "1")
    return f"redis://127.0.0.1:{server.port}"


def replica(start: Callable[..., Server]) -> str:
    server = start()
    server.client.replicaof("127.0.0.1", str(free_port()))
    return f"redis://127.0.0.1:{server.port}"


def no_disk(start: Callable[..., Server]) -> str:
    server = start()
    server.client.set("some", "thing")
    directory = Path(server.client.config_get("dir")["dir"])
    server.client.config_set("save", "3600 1")
    (directory / "dump.rdb").mkdir()  # it cannot be replaced by a file
    server.client.execute_command("BGSAVE")
    until(lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err")
    return f"redis://127.0.0.1:{server.port}"


def few_replicas(start: Callable[..., Server]) -> str:
    server = start()
    server.client.config_set("min-replicas-to-write", "1")
    return f"redis://127.0.0.1:{server.port}"


def no_name(start: Callable[..., Server]) -> str:
    return f"redis://:{SECRET}@store.invalid"


def nobody(start: Callable[..., Server]) -> str:
    return f"redis://:{SECRET}@127.0.0.1:{free_port()}"


def no_socket(start: Callable[..., Server]) -> str:
    return "unix:///tmp/no-such-store.sock"


def tls_to_a_plain_port(start: Callable[..., Server]) -> str:
    return f"rediss://127.0.0.1:{start().port}"


CASES = [
    (no_password, "no_password", "asks for a password", "HELLO must be called"),
    (wrong_password, "wrong_password", "turns down", "invalid username-password pair"),
    (unknown_user, "wrong_password", "turns down", "invalid username-password pair"),
    (no_scripts, "scripts", "+@scripting", "'eval'"),
    (no_writes, "rights", "right to read, write", "'xadd'"),
    (other_keys, "rights", "right to read, write", "ermission"),
    (far_database, "database", "such as /0", "DB index is out of range"),
    (node_of_a_cluster, "cluster", "redis+cluster://", "Hash slot not served"),
    (no_cluster, "no_cluster", "begin REDIS_URL with redis://", "Cluster mode is not enabled"),
    (cluster_with_wrong_password, "wrong_password", "turns down", "invalid username-password"),
    (no_sentinel, "no_sentinel", "it is no sentinel", "unknown command"),
    (sentinels_away, "primary", "name of the service", "No master found for 'main'"),
    (full_memory, "memory", "maxmemory", "used memory > 'maxmemory'"),
    (replica, "replica", "name the primary", "read only replica"),
    (no_disk, "disk", "make room", "MISCONF"),
    (few_replicas, "replicas", "min-replicas-to-write", "NOREPLICAS"),
    (no_name, "name", "DNS", "store.invalid"),
    (nobody, "refused", "nothing listens there", "127.0.0.1"),
    (no_socket, "socket", "no such socket", "/tmp/no-such-store.sock"),
    (tls_to_a_plain_port, "silent", "a port without TLS takes redis://", "Timeout"),
]


# The bus of a Redis 6.2 in a cluster takes no port of its own, and the one it takes may not exist.
CASES_BY_ENGINE = [
    (*case, engine)
    for case in CASES
    for engine in ENGINES
    if (case[0], engine) != (node_of_a_cluster, "Redis 6.2")
]


@pytest.mark.parametrize(("make", "kind", "shown", "words", "engine"), CASES_BY_ENGINE)
def test_a_real_store_says_why_it_does_not_do_what_it_is_asked(
    make: Callable[..., str], kind: str, shown: str, words: str, engine: str, state_dir: Path
) -> None:
    program = program_of(engine)
    program.chmod(program.stat().st_mode | 0o100)
    with servers(state_dir, str(program)) as start:
        address = parse_address(make(start))
        with (
            closing(connect(address, timeout_s=0.5)) as client,
            pytest.raises(StoreErrors) as caught,
        ):
            probe(client)

    found = trouble_of(caught.value)
    assert found.kind == kind
    assert shown in found.shown
    assert words in found.said
    assert SECRET not in found.shown
    assert len(found.said) <= 161


def test_a_port_that_speaks_tls_is_told_from_one_that_does_not(
    start: Callable[..., Server], certificate: tuple[Path, Path]
) -> None:
    key, found = map(str, certificate)
    plain = start().port
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(found, key)

    def pass_on(connection: socket.socket) -> None:
        with (
            context.wrap_socket(connection, server_side=True) as client,
            socket.create_connection(("127.0.0.1", plain)) as server,
        ):
            while data := client.recv(4096):
                server.sendall(data)
                client.sendall(server.recv(4096))

    def kind_of(url: str) -> str:
        with closing(connect(parse_address(url), timeout_s=1)) as client:
            try:
                probe(client)
            except StoreErrors as error:
                return trouble_of(error).kind
        return "none"

    with listening(pass_on) as url:
        port = urlsplit(url).port
        assert kind_of(f"redis://127.0.0.1:{port}") == "away"
        assert kind_of(f"rediss://127.0.0.1:{port}") == "certificate"
        assert kind_of(f"rediss://127.0.0.1:{port}?ssl_ca_certs={found}") == "none"
        assert kind_of(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none") == "none"


def test_a_probe_leaves_nothing_behind(store: PrivateServer, client: Any) -> None:
    probe(client)

    assert client.dbsize() == 0


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError(f"unknown command 'HELLO', with args beginning with: '{SECRET}'"),
        redis.ResponseError(f"Command # 1 (AUTH {SECRET}) of pipeline caused error: ERR no"),
        redis.ResponseError(f"Command # 1 (XADD SSL {SECRET}) of pipeline caused error: OOM full"),
    ],
)
def test_what_was_sent_is_not_repeated(error: Exception) -> None:
    found = trouble_of(error)
    assert SECRET not in found.shown
    assert found.kind in ("other", "memory")


def test_each_kind_of_trouble_has_one_row_with_what_to_do() -> None:
    kinds = [row.kind for row in TABLE]
    assert len(kinds) == len(set(kinds))
    assert all(row.reason and row.fix for row in TABLE)


# -- and says so everywhere ---------------------------------------------------------------------


def entries(provider: Provider) -> dict[str, Any]:
    return {"endpoints": [endpoint(provider, "a")], "strategies": LEARN, "apps": ROUTED}


@pytest.mark.parametrize(
    ("make", "kind", "event"),
    [
        (no_password, "no_password", "store takes nothing: outcomes wait in the journal"),
        (wrong_password, "wrong_password", "store takes nothing: outcomes wait in the journal"),
        (no_scripts, "scripts", "store runs no scripts: outcomes are sent, and not folded"),
        (far_database, "database", "store takes nothing: outcomes wait in the journal"),
        (node_of_a_cluster, "cluster", "store takes nothing: outcomes wait in the journal"),
        (full_memory, "memory", "store takes nothing: outcomes wait in the journal"),
        (replica, "replica", "store takes nothing: outcomes wait in the journal"),
        (nobody, "refused", "store is away: outcomes wait in the journal"),
    ],
)
def test_log_report_and_readiness_say_why_and_what_to_do(
    make: Callable[..., str],
    kind: str,
    event: str,
    provider: Provider,
    state_dir: Path,
    tmp_path: Path,
    start: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    said: list[Any],
) -> None:
    """Also of a store that nothing was said to yet."""
    url = make(start)
    with serving(entries(provider), state_dir / "state", Address(url)) as sidecar:
        sidecar.until(lambda: any(line["event"] == event for line in said))
        shown = sidecar.http.get("/readyz?verbose").json()
        assert (shown["ready"], shown["degraded"]) == (True, True)
        assert shown["store"]["kind"] == kind
        assert all(shown["store"][what] for what in ("reason", "said", "fix"))
        assert sidecar.http.get("/readyz").json() == {"ready": True, "degraded": True}
        assert sidecar.chat().status_code == 200
    lines = [line for line in said if line["event"] == event]
    assert len(lines) == 1
    assert {"reason", "said", "fix"} <= lines[0].keys()

    file = tmp_path / "pointsman.yaml"
    server = {"state_dir": str(state_dir / "state")}
    whole = {**entries(provider), "server": server, "store": {"shards": SHARDS}}
    file.write_text(yaml.safe_dump(whole))
    monkeypatch.setenv("REDIS_URL", url)
    found = json.loads(pointsman("report", "--config", file, "--json").stdout)
    assert found["store"]["kind"] == kind
    assert found["store"]["fix"] in " ".join(found["missing"])
    printed = pointsman("report", "--config", file)
    assert found["store"]["fix"][:40] in " ".join(printed.output.split())
    for text in (json.dumps(shown), json.dumps(found), printed.output, repr(said)):
        assert SECRET not in text


def test_a_store_that_is_mended_is_well_again(
    provider: Provider, state_dir: Path, start: Callable[..., Server], said: list[Any]
) -> None:
    server = start()
    server.client.config_set("maxmemory", "1")
    address = Address(f"redis://127.0.0.1:{server.port}")
    with serving(entries(provider), state_dir / "state", address) as sidecar:
        sidecar.until(lambda: sidecar.http.get("/readyz").json()["degraded"])
        server.client.config_set("maxmemory", "0")
        sidecar.until(lambda: not sidecar.http.get("/readyz").json()["degraded"])
        assert sidecar.http.get("/readyz?verbose").json()["store"] is None


def test_a_worker_says_that_its_user_may_not_run_scripts(
    state_dir: Path, start: Callable[..., Server], said: list[Any]
) -> None:
    with learning(state_dir, parse_address(no_scripts(start))):
        until(lambda: [line for line in said if "store takes nothing" in line["event"]])

    (line,) = (line for line in said if "store takes nothing" in line["event"])
    assert "+@scripting" in line["fix"]


# -- odd paths ----------------------------------------------------------------------------------


@pytest.fixture
def odd(state_dir: Path) -> Path:
    found = state_dir / ODD
    found.mkdir()
    return found


def test_the_private_store_is_reached_below_a_path_of_odd_characters(odd: Path) -> None:
    with open_store(odd) as address, closing(connect(address)) as client:
        client.set(keys.META, "x")

        async def ask() -> Any:
            other = connect_async(address, timeout_s=2)
            try:
                return await other.get(keys.META)
            finally:
                await other.aclose()

        assert asyncio.run(ask()) == b"x"


@contextmanager
def up(file: Path, port: int, told: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run `pointsman up`; what it said is `told` once it has ended."""
    command = [sys.executable, "-m", "router.cli", "up", "--config", str(file)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with process:
        try:
            until(lambda: _is_ready(port), within_s=30)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            assert process.stderr is not None
            told.append(process.stderr.read())


def _is_ready(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/readyz"
        return bool(httpx.get(url, trust_env=False).json() == {"ready": True, "degraded": False})
    except httpx.TransportError:
        return False


def _audited(file: Path) -> dict[str, Any]:
    found = pointsman("audit", "--config", file, "--json")
    return dict(json.loads(found.stdout))


def _is_archived(file: Path) -> bool:
    found = _audited(file)
    return bool(found["files"] and found["records"] == 5)


@pytest.mark.slow
def test_everything_works_below_a_path_of_odd_characters(provider: Provider, odd: Path) -> None:
    file, port = odd / "point sman#1%.yaml", free_port()
    whole = {
        **entries(provider),
        "server": {"port": port, "state_dir": str(odd / "st ate"), "drain_s": 1},
        "store": {"shards": SHARDS},
        "archive": {"every_s": 1},
    }
    file.write_text(yaml.safe_dump(whole, allow_unicode=True))
    checked = pointsman("check", "--config", file)
    assert checked.exit_code == 0, checked.output

    told: list[str] = []
    with up(file, port, told) as process:
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        body = {"model": "auto", "messages": [{"role": "user", "content": "hello"}]}
        for _ in range(5):
            assert httpx.post(url, json=body, trust_env=False).status_code == 200
        report = json.loads(pointsman("report", "--config", file, "--json").stdout)
        until(lambda: _is_archived(file), 30)
        assert _audited(file)["equal"] is True
        assert report["store"] is None
    assert process.returncode == 0
    assert "Traceback" not in told[0]
    assert "died" not in told[0]

    for each in (odd / "st ate" / "store").iterdir():  # the store is lost, the archive is not
        if each.is_dir():
            for inner in each.iterdir():
                inner.unlink()
    restored = pointsman("restore", "--config", file)
    assert restored.exit_code == 0, restored.output
    assert restored.stdout.startswith("restored ")
    assert _audited(file)["equal"] is True


def test_check_says_where_a_socket_cannot_be_had(
    state_dir: Path, tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pointsman.yaml"
    deep = state_dir / ("d" * 110)
    file.write_text(yaml.safe_dump({**entries(provider), "server": {"state_dir": str(deep)}}))
    assert pointsman("check", "--config", file).exit_code == 0  # it is below the temporary ones

    monkeypatch.setattr("tempfile.tempdir", str(state_dir / ("t" * 110)))
    found = pointsman("check", "--config", file)
    assert found.exit_code == 2
    (line,) = found.output.strip().splitlines()
    assert "server.state_dir" in line
    assert "shorter by" in line
    assert "REDIS_URL" in line


@pytest.mark.parametrize(("named", "config"), [("REDIS_URL", {}), ("MY_STORE", {"url_env": None})])
def test_check_refuses_an_address_that_cannot_be_used(
    named: str, config: dict[str, Any], provider: Provider, tmp_path: Path, state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "pointsman.yaml"
    store = {name: named for name in config}
    server = {"state_dir": str(state_dir)}
    file.write_text(yaml.safe_dump({**entries(provider), "store": store, "server": server}))
    monkeypatch.setenv(named, f"redis://:{SECRET}@host/abc")

    for verb in ("check", "report", "audit", "serve", "work", "up"):
        found = pointsman(verb, "--config", file)
        assert found.exit_code, verb
        assert f"{named}: 'abc' is not the number of a database" in " ".join(found.output.split())
        assert SECRET not in found.output


def test_off_says_why_its_store_was_not_told(
    provider: Provider, state_dir: Path, tmp_path: Path, start: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    file = tmp_path / "pointsman.yaml"
    file.write_text(yaml.safe_dump({**entries(provider), "server": {"state_dir": str(state_dir)}}))
    for url, why in (
        (wrong_password(start), "it turns down user or password"),
        (f"redis://:{SECRET}@host/abc", "'abc' is not the number of a database"),
    ):
        monkeypatch.setenv("REDIS_URL", url)
        found = pointsman("off", "--config", file)
        assert found.exit_code == 1
        assert "its store was not told: " in found.stderr
        assert why in found.stderr
        assert SECRET not in found.output


def test_a_worker_on_its_own_refuses_an_address_in_one_line(state_dir: Path) -> None:
    command = [sys.executable, "-m", "workers", "--state-dir", str(state_dir), "--shards", "2"]
    environment = {**os.environ, "REDIS_URL": f"redis://:{SECRET}@host/1/2"}

    ended = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert ended.returncode == 1
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("REDIS_URL: '1/2' is not the number of a database")


# -- no home, no directory ----------------------------------------------------------------------

VERBS = [
    ("up",), ("serve",), ("work",), ("off",), ("on",), ("report",), ("report", "--json"),
    ("audit",), ("restore",), ("check",), ("check", "--json"),
]  # fmt: skip
NEVER_REFUSING = ("off", "on")


def _configured(tmp_path: Path, provider: Provider, **server: Any) -> Path:
    file = tmp_path / "pointsman.yaml"
    whole = {**entries(provider), "server": {"port": free_port(), **server}}
    file.write_text(yaml.safe_dump(whole))
    return file


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_without_a_home_every_verb_says_so_in_one_line(
    verb: tuple[str, ...], provider: Provider, tmp_path: Path, homeless: None
) -> None:
    found = pointsman(*verb, "--config", _configured(tmp_path, provider))

    assert found.exit_code == (1 if verb[0] in NEVER_REFUSING else 2)
    (line,) = found.output.strip().splitlines()
    assert "server.state_dir" in line
    assert "~/.local/state/pointsman" in line
    assert "set HOME, or name a directory by server.state_dir" in line


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
@pytest.mark.parametrize("where", ["under a file", "a file", "/proc"])
def test_a_directory_that_cannot_be_made_is_named_with_the_fix(
    where: str, verb: tuple[str, ...], provider: Provider, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    paths = {"under a file": tmp_path / "file" / "state", "a file": tmp_path / "file"}
    path = paths.get(where, Path("/proc/state"))

    found = pointsman(*verb, "--config", _configured(tmp_path, provider, state_dir=str(path)))

    assert found.exit_code == (1 if verb[0] in NEVER_REFUSING else 2)
    (line,) = found.output.strip().splitlines()
    assert "server.state_dir" in line
    assert str(path) in line
    assert "name a directory" in line or "directory that can be written" in line


@pytest.mark.parametrize(
    "verb", [("feedback", "--decision-id", "x", "--thumb", "up"), ("explain", "x")], ids=" ".join
)
def test_what_asks_a_sidecar_needs_no_directory_of_its_own(
    verb: tuple[str, ...], provider: Provider, tmp_path: Path, homeless: None
) -> None:
    found = pointsman(*verb, "--config", _configured(tmp_path, provider))

    assert found.exit_code == 1
    assert "no sidecar at" in found.output
