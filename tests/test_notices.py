"""Notices of what changed reach a receiver: signed, in order, each once over all routers."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Provider, Reply, Seen, Sidecar, endpoint, serving, until
from structlog.testing import capture_logs

from bandit.report import ChangeKind
from router.config.compiled import compile_text
from router.config.notices import NoticeKind, Receiver, url_problem
from router.errors import ConfigError
from router.notices import backlog, sender, webhook
from router.notices.backlog import HELD_MS, MOST, Backlog
from router.notices.notice import Notice, notice_of
from router.notices.sender import NoticeSender
from router.notices.webhook import Delivery, send
from telemetry import keys
from telemetry.changes import ChangeRecord, append, change_id
from telemetry.store import Address, connect

SECRET = "a secret of the receiver's own"
RELEASE = {
    "app": "shop", "strategy": "balanced", "model": None, "id": "0a1b2c3d", "task": "chat",
    "before": "a", "after": "b", "p_better": 0.9731, "gain": 0.02, "reason": "better",
    "labels": {"shop": 310, "web": 30}, "version": 2, "at_ms": 1,
}  # fmt: skip
ALARM = {
    "endpoint": "a", "kind": "down", "at_ms": 1, "since_ms": 1_700_000_000_000, "labels": 42.0,
    "mean_residual": -0.8, "factor": 0.61,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(sender, "FIRST_REST_S", 0.05)
    monkeypatch.setattr(sender, "LONGEST_REST_S", 0.2)


@pytest.fixture
def seen(address: Address) -> Iterator[Any]:
    with closing(connect(address)) as found:
        yield found


@pytest.fixture
def hook(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """A receiver that takes everything."""
    monkeypatch.setenv("NOTICES_URL", provider.url("hook"))
    monkeypatch.setenv("NOTICES_SECRET", SECRET)
    provider.on("hook", Reply(status=204))
    return provider


def config(provider: Provider, **notices: Any) -> dict[str, Any]:
    webhook = {"url_env": "NOTICES_URL", "secret_env": "NOTICES_SECRET"}
    listed = [endpoint(provider, "a")]
    return {"endpoints": listed, "notices": {"webhook": webhook, **notices}}


def release(client: Any, **more: Any) -> str:
    entry = {"release": json.dumps({**RELEASE, **more})}
    return str(client.xadd(keys.RELEASES, entry).decode())


def alarm(client: Any, **more: Any) -> str:
    return str(client.xadd(keys.ALARMS, {"alarm": json.dumps({**ALARM, **more})}).decode())


def told(provider: Provider) -> list[dict[str, Any]]:
    return [call.json for call in provider.calls if call.host == "hook"]


def is_listening(client: Any) -> bool:
    """Whether a router has looked where the streams end: what comes from then on is sent."""
    return bool(client.hlen(keys.NOTICES) >= 4)


def signature_of(call: Seen) -> str:
    """What a receiver works out by itself, as docs/notices.md says."""
    message = call.headers["x-pointsman-timestamp"].encode() + b"." + call.body
    return "v1=" + hmac.new(SECRET.encode(), message, hashlib.sha256).hexdigest()


# -- what is sent -------------------------------------------------------------------------------


def test_a_release_and_an_alarm_are_sent_signed_with_their_evidence(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    with serving(config(hook), state_dir, address):
        until(lambda: is_listening(seen))
        first, second = release(seen), alarm(seen)
        until(lambda: len(told(hook)) == 2)

    calls = [call for call in hook.calls if call.host == "hook"]
    one, other = (call.json for call in calls)
    assert {k: v for k, v in one.items() if k != "at"} == {
        "id": f"release-{first}",
        "kind": "release",
        "subject": "chat",
        "app": "shop",
        "text": "b is better than a in task chat, and serves it",
        "reason": "better, probability 0.973, 340 labels",
        "undo": "pointsman release undo 0a1b2c3d",
    }
    assert (other["id"], other["kind"], other["subject"]) == (f"alarm-{second}", "drift", "a")
    assert other["text"] == "quality fell: 0.61 of what was expected"
    for call in calls:
        assert call.headers["x-pointsman-signature"] == signature_of(call)
        assert call.headers["x-pointsman-notice"] == call.json["id"]
        assert abs(int(call.headers["x-pointsman-timestamp"]) - time.time()) < 60
        assert call.headers["content-type"] == "application/json"


def test_what_the_page_says_of_checking_a_signature_is_so(
    hook: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (Path(__file__).parent.parent / "docs" / "notices.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    names: dict[str, Any] = {}
    exec(code, names)

    assert send(Receiver(hook.url("hook"), SECRET.encode()), _notice(), at_s=time.time()) == (
        Delivery.TAKEN,
        "204",
    )
    (call,) = hook.calls
    late = {**call.headers, "x-pointsman-timestamp": str(int(time.time()) - 600)}
    is_ours = names["is_ours"]
    assert is_ours(SECRET.encode(), call.headers, call.body)
    assert not is_ours(SECRET.encode(), call.headers, call.body + b" ")
    assert not is_ours(b"another", call.headers, call.body)
    assert not is_ours(SECRET.encode(), late, call.body)


def test_only_kinds_that_are_wanted_are_sent(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    with serving(config(hook, kinds=["outage"]), state_dir, address):
        until(lambda: is_listening(seen))
        release(seen)
        append(seen, [change("outage", "a")])
        until(lambda: told(hook))

    assert [one["kind"] for one in told(hook)] == ["outage"]


def change(kind: str, subject: str) -> ChangeRecord:
    id_ = change_id(kind, subject, "1")
    return ChangeRecord(id=id_, at_ms=1, kind=kind, subject=subject, text="wrong key")


def test_every_kind_of_the_page_may_be_wanted() -> None:
    assert {kind.value for kind in NoticeKind} == {kind.value for kind in ChangeKind}


@pytest.mark.parametrize(
    ("field", "value", "kind", "text"),
    [
        (b"release", {**RELEASE, "reason": "removed", "p_better": None}, "release",
         "task chat goes to b instead of a"),
        (b"release", {**RELEASE, "reason": "lost", "p_better": 0.4}, "release",
         "task chat goes to b instead of a"),
        (b"release", {**RELEASE, "labels": {}}, "release", "task chat goes to b instead of a"),
        (b"note", {**RELEASE, "kind": "proposed"}, "proposal",
         "b instead of a in task chat waits for a yes"),
        (b"note", {**RELEASE, "kind": "yielded", "why": "w"}, "budget",
         "the allowance for exploring is spent: b serves task chat"),
        (b"note", {**RELEASE, "kind": "of a later version"}, None, ""),
        (b"release", {"task": "chat"}, None, ""),
        (b"release", "no object", None, ""),
    ],
)  # fmt: skip
def test_better_is_said_of_evidence_alone(
    field: bytes, value: Any, kind: str | None, text: str
) -> None:
    found = notice_of(keys.RELEASES, "5-0", {field: json.dumps(value).encode()})

    assert (found.kind if found else None) == kind
    assert found is None or found.text == text


@pytest.mark.parametrize(
    ("reason", "says", "undo"),
    [
        ("accepted: trial", "accepted: a trial of it was won", "pointsman release undo 0a1b2c3d"),
        ("alarm", "alarm", "pointsman release undo 0a1b2c3d"),
        ("pinned", "pinned after a trial without a gain", ""),
        ("undone", "undone", ""),
        ("removed", "removed", ""),
    ],
)
def test_what_can_be_taken_back_says_how(reason: str, says: str, undo: str) -> None:
    value = json.dumps({**RELEASE, "reason": reason, "p_better": None}).encode()
    found = notice_of(keys.RELEASES, "5-0", {b"release": value})

    assert found is not None
    assert (found.reason, found.undo) == (f"{says}, 340 labels", undo)


# -- receivers as they are ----------------------------------------------------------------------


def test_what_a_receiver_failed_to_take_is_sent_again_under_its_id(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    states = iter([500, 503, 204, 204])
    hook.on("hook", lambda _: Reply(status=next(states)))
    with serving(config(hook), state_dir, address) as sidecar:
        until(lambda: is_listening(seen))
        release(seen)
        release(seen, task="code")
        until(lambda: len(told(hook)) == 4)
        sidecar.until(lambda: not sidecar.app.notices.troubles())

    assert [one["subject"] for one in told(hook)] == ["chat", "chat", "chat", "code"]
    assert len({one["id"] for one in told(hook)}) == 2


def test_a_receiver_that_is_away_is_a_trouble_and_gets_all_when_it_is_back(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    hook.on("hook", Reply(reset=True))
    with serving(config(hook), state_dir, address) as sidecar:
        until(lambda: is_listening(seen))
        for n in range(5):
            release(seen, task=str(n))
        sidecar.until(lambda: bool(sidecar.app.notices.troubles()))
        (trouble,) = sidecar.app.chronicle.troubles()
        assert trouble.subject == "notices.webhook"
        assert sidecar.chat("a").status_code == 200
        hook.calls.clear()
        hook.on("hook", Reply(status=200))
        until(lambda: len(told(hook)) >= 5)

    assert list(dict.fromkeys(one["subject"] for one in told(hook))) == ["0", "1", "2", "3", "4"]


def test_a_redirect_is_not_followed_and_what_is_turned_down_is_not_sent_again(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    states = iter([
        Reply(status=307, headers={"location": hook.url("elsewhere")}),
        Reply(status=400, body=b"no"),
        Reply(status=200),
    ])  # fmt: skip
    hook.on("hook", lambda _: next(states))
    with serving(config(hook), state_dir, address):
        until(lambda: is_listening(seen))
        for task in ("redirected", "turned down", "taken"):
            release(seen, task=task)
        until(lambda: len(told(hook)) == 3)
        time.sleep(0.2)

    assert [one["subject"] for one in told(hook)] == ["redirected", "turned down", "taken"]
    assert "elsewhere" not in hook.hosts()


def test_a_slow_receiver_is_given_up_in_time_however_it_drips(
    hook: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    hook.on("hook", Reply(delay_s=3))
    began = time.monotonic()

    found = send(Receiver(hook.url("hook"), b"s"), _notice(), at_s=1)

    assert found == (Delivery.LATER, "no answer in time")
    assert time.monotonic() - began < 2


def test_nobody_there_is_worth_another_try_and_the_word_for_it_names_no_address() -> None:
    found, why = send(Receiver("http://127.0.0.1:9/hook-secret", b"s"), _notice(), at_s=1)

    assert found is Delivery.LATER
    assert why == "ConnectError"


def _notice() -> Notice:
    return Notice("release-1-0", "release", "2026-01-01T00:00:00+00:00", "chat", "shop", "text")


def test_no_log_line_holds_address_or_secret(
    hook: Provider, address: Address, seen: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTICES_URL", f"{hook.url('hook')}/token-of-the-url")
    notices = compile_text(yaml.safe_dump(config(hook)), file="t").notices
    found = NoticeSender(address, name="r", wanted=lambda: notices, now_ms=_now)
    with capture_logs() as logs:
        found.look(seen)
        release(seen)
        for reply in (Reply(reset=True), Reply(status=500), Reply(status=400)):
            hook.on("hook", reply)
            found.look(seen)
        release(seen)
        hook.on("hook", Reply(status=200))
        found.look(seen)

    text = f"{logs}{found.troubles()}{notices}{notices.receiver()!r}"
    assert len(logs) == 3
    assert "token-of-the-url" not in text
    assert SECRET not in text


def _now() -> int:
    return int(time.time() * 1000)


# -- several routers, and restarts --------------------------------------------------------------


def test_two_routers_on_one_store_deliver_each_notice_once(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    (state_dir / "2").mkdir()
    with (
        serving(config(hook), state_dir, address),
        serving(config(hook), state_dir / "2", address),
    ):
        until(lambda: is_listening(seen))
        for n in range(12):
            release(seen, task=str(n))
            time.sleep(0.02)
        until(lambda: len(told(hook)) >= 12)
        time.sleep(0.3)

    assert [one["subject"] for one in told(hook)] == [str(n) for n in range(12)]


def test_what_happened_between_two_lives_is_sent_by_the_next_one(
    hook: Provider, state_dir: Path, address: Address, seen: Any
) -> None:
    release(seen, task="before anybody listened")
    with serving(config(hook), state_dir, address):
        until(lambda: is_listening(seen))
        release(seen, task="first")
        until(lambda: told(hook))
    release(seen, task="between")
    with serving(config(hook), state_dir, address):
        until(lambda: len(told(hook)) == 2)

    assert [one["subject"] for one in told(hook)] == ["first", "between"]


def test_another_router_takes_over_from_one_that_was_killed(client: Any) -> None:
    receiver = Receiver("https://example.com/hook", b"s")
    killed, other = (Backlog(client, receiver, name) for name in ("killed", "other"))

    assert killed.hold()
    assert killed.read(now_ms=1) == []
    release(client, task="sent")
    release(client, task="waits")
    killed.done(killed.read(now_ms=1)[0])
    assert not other.hold()
    assert 0 < client.pttl(_sender(client)) <= HELD_MS
    client.delete(_sender(client))  # as its time runs out

    assert other.hold()
    (waits,) = other.read(now_ms=2)
    assert waits.notice is not None
    assert waits.notice.subject == "waits"
    assert not killed.hold()


def _sender(client: Any) -> bytes:
    (found,) = client.keys("*sender*")
    return bytes(found)


def test_a_receiver_that_was_away_for_long_gets_the_last_hundred(client: Any) -> None:
    found = Backlog(client, Receiver("https://example.com/hook", b"s"), "r")
    found.read(now_ms=1)
    for n in range(MOST + 20):
        release(client, task=str(n))

    waiting = [one.notice.subject for one in found.read(now_ms=1) if one.notice]
    assert waiting == [str(n) for n in range(20, MOST + 20)]


def test_what_is_an_hour_old_is_given_up(hook: Provider, address: Address, seen: Any) -> None:
    notices = compile_text(yaml.safe_dump(config(hook)), file="t").notices
    ahead_ms = [0]
    found = NoticeSender(
        address, name="r", wanted=lambda: notices, now_ms=lambda: _now() + ahead_ms[0]
    )
    hook.on("hook", Reply(status=500))
    found.look(seen)
    release(seen)
    found.look(seen)
    ahead_ms[0] = int(sender.TRIED_S * 1000) + 1000
    found.look(seen)
    found.look(seen)

    assert len(told(hook)) == 1


def test_how_far_receivers_are_is_forgotten_a_month_after_their_last_use(client: Any) -> None:
    old, young = (
        Backlog(client, Receiver(f"https://{host}.example/", b"s"), "r") for host in ("old", "new")
    )
    old.read(now_ms=HELD_MS + 1)
    young.read(now_ms=backlog.FORGOTTEN_MS + HELD_MS + 2)

    assert len({name.partition(b":")[0] for name in client.hkeys(keys.NOTICES)}) == 1


# -- the configuration --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "allow_http", "is_permitted"),
    [
        ("https://example.com/hooks/x?y=z", False, True),
        ("http://127.0.0.1:8000/x", False, True),
        ("http://[::1]:8000/x", False, True),
        ("http://localhost/x", False, True),
        ("http://example.com/x", False, False),
        ("http://example.com/x", True, True),
        ("http://127.0.0.1.example.com/x", False, False),
        ("ftp://example.com/x", True, False),
        ("https:///x", True, False),
        ("https://exa mple:x/", True, False),
        ("", True, False),
    ],
)
def test_notices_go_over_tls_or_to_this_machine_unless_said_otherwise(
    url: str, allow_http: bool, is_permitted: bool
) -> None:
    assert (url_problem(url, allow_http=allow_http) is None) is is_permitted


def test_an_address_in_the_file_or_a_secret_that_is_missing_is_refused_and_not_shown(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHORT", "hush")
    value = config(provider)
    url = "https://hooks.example.com/T0/B0/token-of-the-url"
    value["notices"] = {"webhook": {"url_env": url, "secret_env": "SHORT"}}

    with pytest.raises(ConfigError) as refused:
        compile_text(yaml.safe_dump(value), file="t")

    told = str(refused.value.problems)
    assert {p.field for p in refused.value.problems} == {
        "notices.webhook.url_env",
        "notices.webhook.secret_env",
    }
    assert "token-of-the-url" not in told
    assert "hush" not in told


def test_a_reload_sends_to_the_new_receiver(
    hook: Provider,
    state_dir: Path,
    address: Address,
    seen: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(config(hook), state_dir, address) as sidecar:
        until(lambda: is_listening(seen))
        monkeypatch.setenv("NOTICES_URL", hook.url("other"))
        until(lambda: seen.hlen(keys.NOTICES) >= 8)
        release(seen)
        until(lambda: "other" in hook.hosts())
        _serves(sidecar)

    assert "hook" not in hook.hosts()


def _serves(sidecar: Sidecar) -> None:
    assert sidecar.chat("a").status_code == 200
