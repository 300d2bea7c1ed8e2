"""Episodes: declared sessions over several roles, booked, named and judged as one."""

from __future__ import annotations

from router.dialects.request import BodyHints, Declared
from router.policy.hints import read_hints
from telemetry.digests import episode_digest


def test_an_episode_is_a_session_and_goes_before_a_session_id() -> None:
    headers = {b"x-router-session-id": b"s", b"x-router-episode-id": b"e", b"session-id": b"c"}
    assert read_hints(headers, Declared()).session == "e"
    body = Declared(BodyHints(episode_id="b", session_id="x"))
    assert read_hints({}, body).session == "b"
    assert read_hints({b"x-router-session-id": b"s"}, body).session == "b"
    assert read_hints({b"x-router-episode-id": b" "}, Declared()).session is None


def test_a_prompt_version_comes_in_header_or_body() -> None:
    assert read_hints({b"x-router-prompt": b"v7"}, Declared()).prompt == "v7"
    assert read_hints({}, Declared(BodyHints(prompt="v8"))).prompt == "v8"
    assert read_hints({}, Declared()).prompt is None


def test_episodes_of_two_apps_are_two() -> None:
    assert episode_digest("a", "1") != episode_digest("b", "1")
    assert episode_digest("a", "7.0") == episode_digest("a", "7")


def test_an_id_is_one_however_a_number_or_blanks_are_written() -> None:
    said = [b"7", b"7.0", b" 7 "]
    assert {read_hints({b"x-router-session-id": one}, Declared()).session for one in said} == {"7"}
    assert read_hints({}, Declared(BodyHints(session_id=" 7.0 "))).session == "7"
    assert read_hints({}, Declared(BodyHints(session_id=" "))).session is None


def test_only_a_cache_key_is_a_session_of_its_user_alone() -> None:
    by_key = read_hints({}, Declared(user="ann", cache_key="pk"))
    assert (by_key.session, by_key.is_users) == ("pk", True)
    named = read_hints({b"x-router-session-id": b"s"}, Declared(user="ann", cache_key="pk"))
    assert (named.session, named.is_users) == ("s", False)
    assert read_hints({}, Declared(cache_key="pk")).session is None
