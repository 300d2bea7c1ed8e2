"""Merging what levels say: the result is as strict as each of them, in whatever order."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st
from looser import HOLDS, loosened
from msgspec import structs

from router.config.rules import (
    HARD,
    NOTHING,
    PREFERENCES,
    Level,
    PolicyRules,
    merge,
    says,
    strictest,
    why_forbidden,
)
from router.endpoints.data_classes import DataClasses
from router.endpoints.places import Whereabouts
from router.endpoints.terms import HostingTerms

CLASSES = DataClasses().all
NAMES = ("a", "b", "c")
sets = st.frozensets(st.sampled_from(NAMES))
some = st.none() | sets
bits = st.integers(0, 7)
word = st.none() | st.sampled_from(NAMES)
rules = st.builds(
    PolicyRules,
    data_class=st.none() | st.sampled_from(CLASSES),
    regions=some,
    jurisdictions=some,
    zones=some,
    retention_days=st.none() | st.integers(0, 3),
    no_training=st.booleans(),
    keep_nothing=st.booleans(),
    private=st.booleans(),
    allow=some,
    deny=sets,
    require=bits,
    forbid=bits,
    tools=st.frozensets(sets, max_size=2),
    cost_usd=st.none() | st.sampled_from((0.1, 1.0)),
    latency_ms=st.none() | st.sampled_from((10.0, 1000.0)),
    high_stakes=st.booleans(),
    no_exploring=st.booleans(),
    strategy=word,
    incumbent=word,
    prefer=st.none() | st.integers(1, 7),
)
terms = st.builds(
    HostingTerms,
    region=word,
    jurisdiction=word,
    zone=word | st.just("local"),
    retention_days=st.none() | st.integers(0, 3),
    trains_on_data=st.none() | st.booleans(),
)
places = st.builds(
    Whereabouts,
    name=st.sampled_from(NAMES),
    most=st.sampled_from(CLASSES),
    usual=st.just(DataClasses().usual),
    terms=terms,
    capabilities=bits,
)


def merged(*parts: PolicyRules) -> PolicyRules:
    return merge([(Level.APP, part) for part in parts]).rules


def hard(of: PolicyRules) -> PolicyRules:
    return structs.replace(of, **{name: getattr(NOTHING, name) for name in PREFERENCES})


def test_every_field_has_an_operator_and_is_hard_or_a_preference() -> None:
    assert {*HARD, *PREFERENCES} == set(PolicyRules.__struct_fields__)


@given(rules, rules, rules)
def test_merging_is_associative(a: PolicyRules, b: PolicyRules, c: PolicyRules) -> None:
    assert merged(merged(a, b), c) == merged(a, merged(b, c)) == merged(a, b, c)


@given(rules)
def test_merging_something_with_itself_or_nothing_changes_nothing(a: PolicyRules) -> None:
    assert merged(a) == merged(a, a) == merged(a, NOTHING) == merged(NOTHING, a) == a


@given(rules, rules, rules)
def test_hard_fields_are_the_same_in_any_order(
    a: PolicyRules, b: PolicyRules, c: PolicyRules
) -> None:
    assert len({hard(merged(*parts)) for parts in permutations((a, b, c))}) == 1


@given(rules, rules, rules)
def test_no_merged_policy_is_looser_than_any_of_its_parts(
    a: PolicyRules, b: PolicyRules, c: PolicyRules
) -> None:
    together = merged(a, b, c)

    assert [loosened(part, together) for part in (a, b, c)] == [[], [], []]


@given(rules, rules)
def test_what_is_loosened_is_named_and_only_that(a: PolicyRules, b: PolicyRules) -> None:
    named = loosened(a, b)

    assert set(named) == {n for n in HARD if getattr(merged(a, b), n) != getattr(b, n)}
    assert all(says(a, name) for name in named)


@settings(max_examples=150)
@given(st.lists(rules, max_size=4), places)
def test_a_place_that_any_part_forbids_the_merged_policy_forbids_too_and_no_other(
    parts: list[PolicyRules], place: Whereabouts
) -> None:
    one_by_one = [why_forbidden(part, place, 0.0) for part in parts]

    is_forbidden = why_forbidden(merged(*parts), place, 0.0) is not None
    assert is_forbidden is any(why is not None for why in one_by_one)


@given(st.lists(rules, max_size=4))
def test_a_preference_is_the_first_that_is_set(parts: list[PolicyRules]) -> None:
    together = merged(*parts)

    for name in PREFERENCES:
        said = [value for part in parts if (value := getattr(part, name)) is not None]
        assert getattr(together, name) == next(iter(said), None)


@given(st.lists(rules, max_size=4))
def test_the_strictest_of_several_has_all_their_constraints_and_no_preference(
    parts: list[PolicyRules],
) -> None:
    found = strictest(parts)

    assert all(loosened(part, found) == [] for part in parts)
    assert not any(says(found, name) for name in PREFERENCES)


@given(rules, rules)
def test_the_trace_names_who_said_what_nearest_first(a: PolicyRules, b: PolicyRules) -> None:
    policy = merge([(Level.REQUEST, a), (Level.APP, b)])

    for name in PolicyRules.__struct_fields__:
        said = [(step.level, step.value) for step in policy.trace if step.field == name]
        parts = ((Level.REQUEST, a), (Level.APP, b))
        assert said == [(level, getattr(p, name)) for level, p in parts if says(p, name)]


def test_every_hard_field_has_a_referee() -> None:
    assert set(HOLDS) == set(HARD)
