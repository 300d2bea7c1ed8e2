"""Addresses of providers: user and password go as Basic, a call's own path is refused."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, endpoint, serving

from router.config.compiled import compile_text
from router.errors import ConfigError
from telemetry.store import Address


def problems(**entry: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        compile_text(yaml.safe_dump({"endpoints": [{"id": "a", "model": "m", **entry}]}), file="t")
    return str(caught.value)


@pytest.mark.parametrize("at", ["endpoint", "provider", "passthrough"])
@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("ann:s3cret", b"ann:s3cret"),
        ("ann", b"ann:"),
        ("a%40b:p%2Fw%C3%A9:x", b"a@b:p/w\xc3\xa9:x"),
    ],
)
def test_user_and_password_of_a_base_url_are_sent_as_basic(
    at: str, written: str, sent: bytes, provider: Provider, state_dir: Path, address: Address
) -> None:
    url = provider.url("a").replace("://", f"://{written}@") + "/"
    value: dict[str, Any] = {"endpoints": [endpoint(provider, "a", base_url=url)]}
    if at != "endpoint":
        value = {
            "providers": {"p": {"base_url": url, "passthrough": True}},
            "endpoints": [{"id": "a", "model": "a", "provider": "p"}],
        }
    with serving(value, state_dir, address) as sidecar:
        model = "unlisted" if at == "passthrough" else "a"
        assert sidecar.chat(model).status_code == 200

    (call,) = provider.calls
    assert call.headers["authorization"] == f"Basic {base64.b64encode(sent).decode()}"
    assert call.path == "/a/v1/chat/completions"


def test_a_password_of_a_base_url_is_in_no_log_and_no_part_of_an_identity(
    provider: Provider, state_dir: Path, address: Address, capfd: pytest.CaptureFixture[str]
) -> None:
    provider.on("a", Reply(status=401, body=b"{}"))  # of which the log tells the address
    signed = provider.url("a").replace("://", "://ann:s3cret@")
    value = {"endpoints": [endpoint(provider, "a", base_url=signed)]}
    with serving(value, state_dir, address) as sidecar:
        found = sidecar.app.keeper.current.configuration.catalog.endpoints[0]
        bare = compile_text(
            yaml.safe_dump({"endpoints": [endpoint(provider, "a")]}), file="t"
        ).catalog.endpoints[0]
        assert found.digest == bare.digest
        assert "s3cret" not in str(found.target)
        assert sidecar.chat().status_code == 502
    assert "s3cret" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cret@h/v1/chat/completions",
        "http://ann:s3cret@h/v1?x=1",
        "http://ann:s3cret/more@h/v1",
        "http://ann:s3cret@h:99999/v1",
        "ftp://ann:s3cret@h/v1",
        "http://ann:s3cret with a space@h/v1",
    ],
)
def test_what_is_wrong_about_a_base_url_shows_no_password(url: str) -> None:
    found = problems(base_url=url)

    assert "base_url" in found
    assert "s3cret" not in found
    assert "more" not in found


@pytest.mark.parametrize("auth", ["client", {"file": "/dev/null"}])
@pytest.mark.parametrize("by_provider", [False, True])
def test_a_password_beside_another_auth_is_refused_by_name(
    auth: Any, by_provider: bool, tmp_path: Path
) -> None:
    if isinstance(auth, dict):
        auth = {"file": str(tmp_path / "key")}
        (tmp_path / "key").write_text("k")
    hosting = {"base_url": "http://ann:s3cret@h/v1", "auth": auth}
    value: dict[str, Any] = {"endpoints": [{"id": "a", "model": "m", **hosting}]}
    if by_provider:
        value = {
            "providers": {"p": hosting},
            "endpoints": [{"id": "a", "model": "m", "provider": "p"}],
        }
    with pytest.raises(ConfigError) as caught:
        compile_text(yaml.safe_dump(value), file="t")

    (problem,) = caught.value.problems
    assert problem.field == ("providers.p.base_url" if by_provider else "endpoints[0].base_url")
    assert "Basic" in problem.hint
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "ending", ["chat/completions", "completions", "messages", "responses", "embeddings"]
)
@pytest.mark.parametrize("closing", ["", "/", "//"])
def test_a_base_url_with_the_path_of_a_call_is_refused_with_the_fix(
    ending: str, closing: str
) -> None:
    assert f"leave /{ending} out" in problems(base_url=f"https://h/v1/{ending}{closing}")


@pytest.mark.parametrize("url", ["http://h/v1/", "http://h/v1//", "http://h", "http://h/messages1"])
def test_other_base_urls_are_fine(url: str) -> None:
    text = yaml.safe_dump({"endpoints": [{"id": "a", "model": "m", "base_url": url}]})
    found = compile_text(text, file="t").catalog.endpoints[0].target

    assert found.path == url.removeprefix("http://h").rstrip("/").encode() + b"/chat/completions"
