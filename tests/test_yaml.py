"""The configuration as people write it: taken as meant, or refused with line, field, value, fix."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import pointsman
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.config.compiled import Configuration, compile_text
from router.config.entries import File
from router.config.file import parse
from router.config.places import places
from router.config.reload import take
from router.config.watch import WatchedFile
from router.endpoints.auth import AuthEntry
from router.errors import ConfigError, Problem

ROOT = Path(__file__).parent.parent
ONE = "endpoints:\n  - {id: a, model: m, base_url: http://h/v1%s}\n"
SECRET = "sk-live-abcdefghijk12345"


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(text, file="f")
    return caught.value.problems


def told(text: str) -> list[tuple[int, str, str]]:
    """Line, field and value of every problem."""
    return [(p.line, p.field, p.value) for p in problems(text)]


def only(text: str) -> Problem:
    (problem,) = problems(text)
    return problem


# -- scalars ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "port"),
    [
        ("010000", 10000),
        ("0o17", 15),
        ("0x1F", 31),
        ("+80", 80),
        ("8e3", 8000),
        ("8787.0", 8787),
        ('"8787"', 8787),
        ("'08787'", 8787),
        ("!!int 80", 80),
    ],
)
def test_numbers_are_those_of_yaml_1_2(written: str, port: int) -> None:
    found = parse(f"server: {{port: {written}}}\n" + ONE % "", file="f")

    assert found.server.port == port


def test_leading_zeros_of_a_share_mean_nothing() -> None:
    assert parse("apps: {default: {percent: 010}}\n" + ONE % "", file="f").apps[
        "default"
    ].percent == pytest.approx(10.0)


@pytest.mark.parametrize(
    "written",
    [
        "1_000",
        "12:30",
        "0b11",
        "10%",
        "8787 s",
        "1,000",
        "2024-10-21",
        '"1_000"',
        "true",
        "~",
        "[1]",
    ],
)
def test_what_only_looks_like_a_number_is_none(written: str) -> None:
    problem = only(f"server:\n  port: {written}\n" + ONE % "")

    assert (problem.line, problem.field) == (2, "server.port")
    assert problem.value == ("a list" if written == "[1]" else written)
    assert (
        "write a" in problem.hint or "number belongs" in problem.hint or "integer" in problem.hint
    )


@pytest.mark.parametrize(
    ("written", "fix"),
    [
        ("yes", "write true"),
        ("On", "write true"),
        ("no", "write false"),
        ("off", "write false"),
        ('"true"', "write true"),
        ("1", "write true or false"),
        ("maybe", "write true or false"),
    ],
)
def test_only_true_and_false_are_truth_values(written: str, fix: str) -> None:
    problem = only(f"apps:\n  default:\n    signals: {written}\n" + ONE % "")

    assert problem == Problem(3, "apps.default.signals", written, fix)


def test_words_of_yaml_1_1_are_texts() -> None:
    """Norway is a region, and a date is the name of an API's version."""
    found = parse(ONE % ", region: no, upstream_model: 2024-10-21", file="f")

    assert found.endpoints[0].region == "no"
    assert found.endpoints[0].upstream_model == "2024-10-21"
    assert parse("tasks: {on: , y: }\n" + ONE % "", file="f").tasks == {"on": None, "y": None}


@pytest.mark.parametrize("written", ["yes", "search"])
def test_tools_that_are_no_list_are_told_what_to_write(written: str) -> None:
    problem = only(f"tasks: {{t: {{match: {{tools: {written}}}}}}}\n" + ONE % "")

    assert (problem.field, problem.value) == ("tasks.t.match.tools", written)
    assert "a list of names" in problem.hint


def test_settings_keep_what_json_has() -> None:
    text = ONE % ", params: {a: 010, b: 1e3, c: yes, d: true, e: 0.70, f: ~, 1.10: {2: [x]}}"

    assert json.dumps(parse(text, file="f").endpoints[0].params) == json.dumps(
        {"a": 10, "b": 1000.0, "c": "yes", "d": True, "e": 0.7, "f": None, "1.10": {"2": ["x"]}}
    )


# -- names --------------------------------------------------------------------------------------


def test_a_name_written_as_a_number_is_its_text_and_merges_with_no_other() -> None:
    text = """\
models: {4.1: {context_tokens: 1000}, 4.10: {context_tokens: 2000}}
endpoints:
  - {id: 01, model: 4.10, base_url: http://h/v1, upstream_model: 1e3}
  - {id: 1, model: 4.1, base_url: http://h/v1}
  - {id: 1.0, model: "4.10", base_url: http://h/v1}
apps: {007: {incumbent: 01}, default: {}}
"""
    found = parse(text, file="f")

    assert [e.id for e in found.endpoints] == ["01", "1", "1.0"]
    assert [e.model for e in found.endpoints] == ["4.10", "4.1", "4.10"]
    assert found.endpoints[0].upstream_model == "1e3"
    assert found.apps["007"].incumbent == "01"


def test_the_same_name_quoted_and_not_is_one() -> None:
    assert told('models: {4.10: , "4.10": }\n' + (ONE % "").replace("model: m", "model: 4.10")) == [
        (1, "models.4.10", "4.10")
    ]


def test_a_truth_value_is_no_name() -> None:
    problem = only("endpoints:\n  - {id: a, model: True, base_url: http://h/v1}\n")

    assert (problem.line, problem.field, problem.value) == (2, "endpoints[0].model", "True")
    assert "quotes" in problem.hint


@pytest.mark.parametrize(
    ("written", "value"),
    [("4.10", "4.10"), ("off", "off"), ('"off"', '"off"'), ("0x10", "0x10"), ("'x'", "'x'")],
)
def test_the_value_in_an_error_is_as_written(written: str, value: str) -> None:
    assert only(f"apps: {{default: {{mode: {written}}}}}\n" + ONE % "").value == value


# -- numbers that are none ----------------------------------------------------------------------

FIELDS = [
    ("strategies:\n  s: {value_usd: %s}\n", "strategies.s.value_usd"),
    ("strategies:\n  s: {latency_usd_per_s: %s}\n", "strategies.s.latency_usd_per_s"),
    ("strategies:\n  s: {release_every_s: %s}\n", "strategies.s.release_every_s"),
    ("apps:\n  default: {percent: %s}\n", "apps.default.percent"),
    ("server:\n  {deadline_s: %s}\n", "server.deadline_s"),
    ("server:\n  {max_held_bytes: %s}\n", "server.max_held_bytes"),
    ("archive:\n  {max_bytes: %s}\n", "archive.max_bytes"),
    ("models:\n  m: {context_tokens: %s}\n", "models.m.context_tokens"),
]
PRICE = ONE % ", prices: {input_usd_per_mtok: %s, output_usd_per_mtok: 1}"


@pytest.mark.parametrize(
    "number",
    [".inf", "-.inf", ".NaN", "1e400", "1e300", "1e-300", '".inf"', "nan", "Infinity", "9" * 20],
)
def test_numbers_that_nobody_means_are_refused_by_field_and_value(number: str) -> None:
    for text, field in FIELDS:
        problem = only(text % number + ONE % "")
        assert (problem.line, problem.field, problem.value) == (2, field, number)
        assert problem.hint
    problem = only(PRICE % number)
    assert (problem.line, problem.field) == (2, "endpoints[0].prices.input_usd_per_mtok")
    assert problem.value == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("strategies:\n  s: {value_usd: %s}\n", "1e7"),
        ("strategies:\n  s: {latency_usd_per_s: %s}\n", "1001"),
        ("strategies:\n  s: {release_every_s: %s}\n", "1e9"),
        ("server:\n  {max_held_bytes: %s}\n", "0x10000000000000"),
        ("models:\n  m: {context_tokens: %s}\n", "1e10"),
        (PRICE, "2e5"),
    ],
)
def test_each_field_has_an_upper_bound(text: str, number: str) -> None:
    problem = only(text % number + ("" if "endpoints" in text else ONE % ""))

    assert problem.value == number
    assert "less than or equal to" in problem.hint


@pytest.mark.parametrize("number", [".inf", ".nan", "1e400", "9" * 5000])
def test_a_setting_without_a_value_in_json_is_refused_at_its_place(number: str) -> None:
    problem = only(ONE % f", params: {{deep: {{x: {number}}}}}")

    assert (problem.line, problem.field) == (2, "endpoints[0].params.deep.x")
    assert "finite" in problem.hint


# -- every error in one round -------------------------------------------------------------------

WRONG = """\
server: {port: 1}
endpoints:
  - &a
    id: a
    model: m
    base_url: http://h/v1
    prices: {input_usd_per_mtok: cheap, output_usd_per_mtok: 1}
  - <<: *a
    id: b
    limits: {max_in_flight: lots}
  - <<: *a
    id: c
    colour: red
  - foo
  - {id: d, model: m, provider: opanai}
  - {<<: 3, id: e, model: m, base_url: http://h/v1}
  - {id: a, model: m, base_url: http://h/v1, auth: {env: POINTSMAN_TEST_MISSING}}
apps:
  default: {incumbent: zz}
  other: {incumbent: foo}
  third: nothing
providers: {openai: {base_url: "ftp://x", auth: client}}
server: {drain_s: x}
"""


def test_every_error_comes_in_one_round_merges_included() -> None:
    """What a merge brings to several places is told once, where it is written."""
    assert told(WRONG) == [
        (7, "endpoints[0].prices.input_usd_per_mtok", "cheap"),
        (10, "endpoints[1].limits.max_in_flight", "lots"),
        (13, "endpoints[2].colour", "colour"),
        (14, "endpoints[3]", "foo"),
        (15, "endpoints[4].provider", "opanai"),
        (16, "endpoints[5].<<", "3"),
        (17, "endpoints[6].id", "a"),
        (17, "endpoints[6].auth.env", "POINTSMAN_TEST_MISSING"),
        (19, "apps.default.incumbent", "zz"),
        (21, "apps.third", "nothing"),
        (22, "providers.openai.base_url", '"ftp://x"'),
        (23, "server", "server"),
        (23, "server.drain_s", "x"),
    ]


def test_a_merge_brings_in_what_is_not_said() -> None:
    text = """\
endpoints:
  - &a {id: a, model: m, base_url: http://h/v1, region: eu}
  - &b {id: b, model: n, base_url: http://h/v1, opaque: true}
  - {<<: [*a, *b], id: c}
"""
    found = parse(text, file="f").endpoints[2]

    assert (found.id, found.model, found.region, found.opaque) == ("c", "m", "eu", True)


def test_what_was_taken_out_makes_no_errors_of_its_own() -> None:
    """Whoever names a thing that is wrong is not told that there is no such thing."""
    text = """\
server: {host: 0.0.0.0}
providers: {p: foo, q: {base_url: nonsense}}
strategies: {s: {objective: best}, t: 3}
tasks: {code: [x]}
endpoints:
  - {id: "${ID}", model: m, provider: p}
  - {id: b, model: m, provider: q, prices: {input_usd_per_mtok: x, output_usd_per_mtok: 1}}
apps: {default: {strategy: s, task: code, incumbent: big, keys: [sk]}, x: {strategy: t}}
"""
    assert told(text) == [
        (2, "providers.p", "foo"),
        (2, "providers.q.base_url", "nonsense"),
        (3, "strategies.s.objective", "best"),
        (3, "strategies.t", "3"),
        (4, "tasks.code", "a list"),
        (6, "endpoints[0].id", '"${ID}"'),
        (7, "endpoints[1].prices.input_usd_per_mtok", "x"),
        (8, "apps.default.keys[0]", "…"),
    ]


@pytest.mark.parametrize("value", ["0", "-1", "abc", ".nan", "1e400", "true", "[1]", "null"])
def test_a_wrong_part_that_is_needed_is_no_lack_of_the_whole(value: str) -> None:
    """The part goes, so the whole, so what needs the whole: only the part is wrong."""
    text = (
        ONE % "" + f"apps: {{default: {{signals: {{sample: {{above_calls_per_s: {value}}}}}}}}}\n"
    )

    assert only(text).field == "apps.default.signals.sample.above_calls_per_s"


def test_an_empty_value_is_told_from_one_left_out() -> None:
    problem = only("server:\n  port:\n" + ONE % "")

    assert (problem.line, problem.value) == (2, "nothing")
    assert "leave the field out" in problem.hint


# -- placeholders -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "field", "hint"),
    [
        (", region: <your-region>", "region", "<your-region> is a placeholder"),
        (', region: "${REGION}"', "region", "write the value of REGION itself"),
        (", region: $REGION", "region", "write the value of REGION itself"),
        (", region: {{ region }}", "region", "write the value itself"),
        (", region: !env REGION", "region", "write the value itself"),
        (", auth: os.environ/KEY", "auth", "write auth: {env: KEY}"),
        (', auth: "${KEY}"', "auth", "write auth: {env: KEY}"),
        (', auth: "${{ secrets.KEY }}"', "auth", "write auth: {env: KEY}"),
        (", auth: $KEY", "auth", "write auth: {env: KEY}"),
        (', auth: "{env:KEY}"', "auth", "write auth: {env: KEY}"),
        (", auth: {env: $KEY}", "auth.env", "write the name alone: env: KEY"),
        (", auth: {env: os.environ/KEY}", "auth.env", "write the name alone: env: KEY"),
        (", auth: {file: $HOME/key}", "auth.file", "write the value of HOME itself"),
        (
            ", auth: {env: HOME, azure: {deployment: <name>, api_version: v}}",
            "auth.azure.deployment",
            "<name> is a placeholder",
        ),
        (", auth: YOUR_API_KEY", "auth", "{env: NAME}"),
        (", auth: <your-key>", "auth", "{env: NAME}"),
        (f", auth: {SECRET}", "auth", "{env: NAME}"),
        (f', auth: {{env: "${{{SECRET}}}"}}', "auth.env", "{env: NAME}"),
        (', params: {user: "${USER}"}', "params.user", "write the value of USER"),
    ],
)
def test_a_placeholder_is_refused_with_what_to_write(
    more: str, field: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "set")
    problem = only(ONE % more)

    assert (problem.line, problem.field) == (2, f"endpoints[0].{field}")
    assert hint in problem.hint
    assert SECRET[:12] not in problem.shown("f")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("https://${HOST}/v1", "write the value of HOST itself"),
        ("https://$HOST/v1", "write the value of HOST itself"),
        ("https://<your-resource>.openai.azure.com", "<your-resource> is a placeholder"),
        ("https://your-resource.openai.azure.com", "write your own"),
    ],
)
def test_an_address_with_a_placeholder_is_refused(url: str, hint: str) -> None:
    problem = only(f"endpoints:\n  - {{id: a, model: m, base_url: '{url}'}}\n")

    assert (problem.line, problem.field) == (2, "endpoints[0].base_url")
    assert problem.value == f"'{url}'"
    assert hint in problem.hint


@pytest.mark.parametrize(
    ("text", "field", "hint"),
    [
        ('store: {url_env: "${REDIS_URL}"}\n', "store.url_env", "url_env: REDIS_URL"),
        ("server: {admin_key: os.environ/A}\n", "server.admin_key", "admin_key: {env: A}"),
        ("server: {seal_secret: $S}\n", "server.seal_secret", "seal_secret: {env: S}"),
        ("server: {state_dir: $HOME/pm}\n", "server.state_dir", "the value of HOME itself"),
        ("apps: {default: {keys: [$K]}}\n", "apps.default.keys[0]", "keys: [{env: K}]"),
    ],
)
def test_a_placeholder_elsewhere_is_refused_as_well(text: str, field: str, hint: str) -> None:
    problem = only(text + ONE % "")

    assert (problem.line, problem.field) == (1, field)
    assert hint in problem.hint


@pytest.mark.parametrize("url", ["http:u:hunter2@h/v1", "<x>u:hunter2@h", "//u:hunter2@${H}/v1"])
def test_an_address_that_is_none_shows_no_password(url: str) -> None:
    problem = only(f"endpoints:\n  - {{id: a, model: m, base_url: '{url}'}}\n")

    assert problem.field == "endpoints[0].base_url"
    assert "hunter2" not in problem.shown("f")


def test_a_file_of_environments_may_hold_a_key(tmp_path: Path) -> None:
    (tmp_path / ".env.local").write_text("k")

    found = parse(ONE % f", auth: {{file: {tmp_path}/.env.local}}", file="f").endpoints[0].auth

    assert isinstance(found, AuthEntry)
    assert found.secret() == "k"


def test_words_of_prompts_and_settings_are_no_placeholders() -> None:
    text = "tasks: {t: {match: {system: [<role>, $HOME, '{{x}}'], tools: [a<b>]}}}\n"

    found = parse(text + ONE % ", params: {stop: [<end>, $X, 'a ${b} c']}", file="f")

    assert found.endpoints[0].params == {"stop": ["<end>", "$X", "a ${b} c"]}


# -- bounds -------------------------------------------------------------------------------------


def laughs(merged: bool) -> str:
    """Nine levels, nine aliases each: written out, nine to the ninth."""
    lines = ["a: &a {x: 1}"]
    for i in range(9):
        inner = ",".join([f"*{chr(97 + i)}"] * 9)
        value = f"{{<<: [{inner}]}}" if merged else f"[{inner}]"
        lines.append(f"{chr(98 + i)}: &{chr(98 + i)} {value}")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (laughs(merged=False), "aliases and merges bring in"),
        (laughs(merged=True), "aliases and merges bring in"),
        ("endpoints: &a [*a]\n", "refers to itself"),
        ("endpoints: &a {<<: *a}\n", "refers to itself"),
        ("[" * 5000, "levels at most"),
        ("a: " + "[" * 70 + "]" * 70, "levels at most"),
        ("a: 1\n---\nb: 2\n", "leave out ---"),
        ("a: *b\n", "needs its anchor"),
        (ONE % ", region: ${REGION}", "nothing is filled in"),
        ("server:\n  port: {{PORT}} # it\n  x: {% if a %}\n", "nothing is filled in"),
        ("a: b\nc: \x01\n", "leave it out"),
        (ONE % ', region: "\\ud800"', "no text"),
        (ONE % ', params: {"\\0": 1}', "no text"),
        ('store: {url_env: "\\ud800"}\n' + ONE % "", "no text"),
        ('server: {state_dir: "a\\0b"}\n' + ONE % "", "no text"),
    ],
)
def test_a_file_without_bounds_or_text_is_refused_at_once(
    text: str, hint: str, tmp_path: Path
) -> None:
    file = tmp_path / "pointsman.yaml"
    file.write_text(text)
    began = time.process_time()

    shown = pointsman("check", "--config", file)
    places(file)

    assert time.process_time() - began < 20
    assert shown.exit_code == 2
    assert hint in shown.output


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    assert only('"\\e[2Jx": 1\n' + ONE % "").field == "\\x1b[2Jx"


def test_the_state_of_a_broken_file_is_still_found(tmp_path: Path) -> None:
    file = tmp_path / "pointsman.yaml"
    file.write_text(f"a: &a {{state_dir: {tmp_path}/0}}\nserver: {{<<: *a, port: no}}\n")

    assert places(file)[0] == tmp_path / "0"


# -- whatever the file holds --------------------------------------------------------------------

WORDS = [
    *("endpoints", "id", "model", "base_url", "auth", "env", "keys", "apps", "default", "server"),
    *("port", "<<", "&a", "*a", "- ", ": ", "\n", "  ", "{", "}", "[", "]", ",", "!!int ", "!x "),
    *("http://h/v1", "${A}", "<x>", "{{", "010", ".inf", "1e400", "~", "yes", "'", '"', "#", "|\n"),
    *("params", "prices", "tasks", "match", "tools", "strategies", "providers", "models", "---\n"),
    *("\\ud800", "\x00", "\ufeff", "é", "%", "? ", "@", "`", "\t", "\r\n", "true", "4.10", SECRET),
]


def refused_or_sound(text: str, running: Configuration) -> bool:
    """Check a text and take it as a reload does; whether it is sound. Nothing else may happen."""
    verdicts, refusals = [], []
    for read in (
        lambda: parse(text, file="f"),
        lambda: take(text, file="f", running=running),
    ):
        try:
            read()
            verdicts.append(True)
        except ConfigError as error:
            refusals.append(error)
            verdicts.append(False)
    for refusal in refusals:
        assert refusal.problems
        for problem in refusal.problems:
            assert problem.hint
            assert problem.shown("f").isprintable()
    return verdicts[0]


@pytest.fixture(scope="module")
def running() -> Configuration:
    return compile_text((ROOT / "docs/examples/minimal.yaml").read_text(), file="f")


def values() -> st.SearchStrategy[Any]:
    leaves = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=12),
        st.sampled_from(WORDS),
    )
    keys = st.one_of(st.sampled_from(_field_names(File)), st.text(max_size=6))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=5)
        ),
        max_leaves=25,
    )


def _field_names(model: Any) -> list[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(field.alias or name)
        for inner in _models(field.annotation):
            names |= set(_field_names(inner))
    return sorted(names)


def _models(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return [annotation]
    return [m for part in getattr(annotation, "__args__", ()) for m in _models(part)]


@pytest.mark.slow
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.dictionaries(st.sampled_from(sorted(File.model_fields)), values(), max_size=6))
def test_any_document_is_taken_or_refused(tree: dict[str, Any], running: Configuration) -> None:
    """JSON is YAML, but for what Python writes of numbers that are none."""
    refused_or_sound(json.dumps(tree), running)


@pytest.mark.slow
def test_any_change_of_a_sound_file_is_taken_or_refused(running: Configuration) -> None:
    whole = (ROOT / "docs/examples/pointsman.yaml").read_text()
    minimal = (ROOT / "docs/examples/minimal.yaml").read_text()
    rng = random.Random(15)
    n_sound = 0
    for n in range(2_000):
        text = whole if n % 40 == 0 else minimal
        for _ in range(rng.randint(1, 4)):
            at, n_gone = rng.randrange(len(text)), rng.choice((0, 0, 1, 5, 20))
            text = text[:at] + rng.choice(WORDS) + text[at + n_gone :]
        n_sound += refused_or_sound(text, running)

    assert 0 < n_sound < 2_000


def junk(rng: random.Random) -> bytes:
    """Return bytes of any kind, or words of a configuration in any order."""
    if rng.random() < 0.5:
        return rng.randbytes(rng.randint(1, 40))
    return "".join(rng.choices(WORDS, k=rng.randint(1, 12))).encode()


@pytest.mark.slow
def test_any_bytes_are_refused(running: Configuration) -> None:
    rng = random.Random(18)
    for _ in range(20_000):
        assert not refused_or_sound(junk(rng).decode("latin-1"), running)


@pytest.mark.slow
def test_any_bytes_leave_a_running_configuration_as_it_is(
    running: Configuration, tmp_path: Path
) -> None:
    """Through the file, as `check` and a sidecar read it."""
    file = tmp_path / "pointsman.yaml"
    watched = WatchedFile(file, running, tmp_path)
    rng = random.Random(16)
    now = 0.0
    for n in range(1_000):
        file.write_bytes(junk(rng))
        os.utime(file, ns=(n, n))
        for _ in range(2):  # it is judged once it stands still
            now += 2.0
            assert watched.look(now, running) is None
        assert watched.in_force.refused is not None
        assert watched.in_force.refused.errors
    assert watched.in_force.version == f"{running.version:016x}"
    assert pointsman("check", "--config", file).exit_code == 2


# -- completeness -------------------------------------------------------------------------------

MIDDLING = """\
server: {port: 1, host: 127.0.0.1}
store: {url_env: STORE, shards: 2}
models:
  m: &m {context_tokens: 1000, capabilities: [tools, images]}
  4.10: *m
providers:
  p: {base_url: https://h/v1, auth: {env: HOME, header: x-k}, region: eu}
endpoints:
  - &a
    {id: a, model: m, provider: p, params: {t: 0.5},
     prices: &p {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  - <<: *a
    id: b
    auth: {env: HOME, azure: {deployment: d, api_version: 2024-10-21}}
    timeouts: {beside_s: {first_token: 2}, stall_s: 3}
  - {id: c, model: 4.10, base_url: http://h/v1, opaque: true, prices: *p,
     limits: {max_in_flight: 3}}
tasks: {t: {match: {tools: [x], schema: true}}, u: }
strategies: {s: {objective: quality, incumbent: b, value_usd: 0.5}}
apps: {default: {mode: route, percent: 10, strategy: s, task: t, keys: [{env: HOME}, {env: HOST}]}}
"""
FAULTS = {
    "port: 1,": ("port: x,", "server.port"),
    "url_env: STORE": ("url_env: $STORE", "store.url_env"),
    "shards: 2": ("shards: 900", "store.shards"),
    "context_tokens: 1000": ("context_tokens: .inf", "models.m.context_tokens"),
    "[tools, images]": ("[tools, imagez]", "models.m.capabilities[1]"),
    "header: x-k": ("header: 'x k'", "providers.p.auth.header"),
    "region: eu": ("regoin: eu", "providers.p.regoin"),
    "t: 0.5": ("t: .nan", "endpoints[0].params.t"),
    "output_usd_per_mtok: 2": (
        "output_usd_per_mtok: two",
        "endpoints[0].prices.output_usd_per_mtok",
    ),
    "deployment: d": ("deployment: [d]", "endpoints[1].auth.azure.deployment"),
    "first_token: 2": ("first_token: -2", "endpoints[1].timeouts.beside_s.first_token"),
    "stall_s: 3": ("stall_s: never", "endpoints[1].timeouts.stall_s"),
    "http://h/v1": ("'https://${H}/v1'", "endpoints[2].base_url"),
    "max_in_flight: 3": ("max_in_flight: 3, x: 1", "endpoints[2].limits.x"),
    "opaque: true": ("opaque: yes", "endpoints[2].opaque"),
    "schema: true": ("schema: on", "tasks.t.match.schema"),
    "u: }": ("u: 3}", "tasks.u"),
    "incumbent: b": ("incumbent: zz", "strategies.s.incumbent"),
    "value_usd: 0.5": ("value_usd: 1e400", "strategies.s.value_usd"),
    "mode: route": ("mode: off", "apps.default.mode"),
    "percent: 10": ("percent: 110", "apps.default.percent"),
    "strategy: s": ("strategy: ss", "apps.default.strategy"),
    "task: t,": ("task: tt,", "apps.default.task"),
    "keys: [{env: HOME}": ("keys: [$K", "apps.default.keys[0]"),
    "{env: HOST}": ("{env: POINTSMAN_TEST_MISSING}", "apps.default.keys[1].env"),
}


def test_of_any_faults_together_each_is_told_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "h")
    monkeypatch.setenv("HOST", "i")
    monkeypatch.setenv("STORE", "redis://127.0.0.1")
    parse(MIDDLING, file="f")
    rng = random.Random(17)
    for _ in range(300):
        text, fields = MIDDLING, set()
        for right in rng.sample(sorted(FAULTS), rng.randint(1, len(FAULTS))):
            assert right in text
            wrong, field = FAULTS[right]
            text = text.replace(right, wrong, 1)
            fields.add(field)

        found = [p.field for p in problems(text)]

        assert sorted(found) == sorted(fields)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("{sample: {above_calls_per_s: 0}}", ["sample.above_calls_per_s"]),
        ("{sample: {above_calls_per_s: .inf}}", ["sample.above_calls_per_s"]),
        ("{sample: {}}", ["sample.above_calls_per_s"]),
        ("{sample: {above: 3}}", ["sample.above_calls_per_s", "sample.above"]),
        ("{sample: 2}", ["sample"]),
        ("{}", ["sample"]),
    ],
)
def test_what_stands_there_and_is_wrong_inside_is_not_said_to_be_missing(
    said: str, wrong: list[str]
) -> None:
    found = told(ONE % "" + f"apps: {{default: {{signals: {said}}}}}\n")

    assert [field for _, field, _ in found] == [f"apps.default.signals.{name}" for name in wrong]
