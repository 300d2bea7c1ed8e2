"""The rules of tasks in their order, what teaches the classifier, and what is too little for it.

There are two sets of exemplars. What a rule's `like` lists are system prompts with tool names: what
stays through a conversation, so that it may decide. What a task's `exemplars` lists are prompts.
"""

from __future__ import annotations

from collections.abc import Iterator

from router.classify.repeated import repeated
from router.classify.starters import starter_prompts, starter_systems, system_text
from router.config.entries import GENERAL, Classify, File, MatchEntry
from router.config.levels import most_specific_first
from telemetry.numbers import brief

ENOUGH = 10
"""Exemplars of a task: with fewer it is not known well from others."""


def rules_of_tasks(entries: File) -> tuple[tuple[str, MatchEntry], ...]:
    """Return what marks tasks, in the order in which it is looked at: those written go first."""
    tasks, starters = entries.all_tasks, entries.starters
    own = most_specific_first(name for name in tasks if name not in starters)
    found = ((name, tasks[name].match) for name in (*own, *starters))
    return tuple((name, match) for name, match in found if match is not None)


def system_exemplars(entries: File) -> dict[str, list[str]]:
    """Return exemplars of system prompts with tool names, by the task that they mark.

    Under `general` lie those that mark none, where there are starter tasks.
    """
    rules = rules_of_tasks(entries)
    found = {name: match.like for name, match in rules if match.like is not None}
    texts = {
        name: like if name in entries.starters else [system_text(one, ()) for one in like]
        for name, like in found.items()
    }
    if entries.starter_tasks:
        texts.setdefault(GENERAL, starter_systems()[GENERAL])
    return texts


def prompt_exemplars(entries: File) -> dict[str, list[str]]:
    """Return exemplars of prompts by task, with some that look like none where there are starters.

    Leaves do not teach what they are below: a prompt looks like one of them, or like the task.
    """
    tasks = entries.all_tasks
    texts = {name: task.exemplars for name, task in tasks.items() if task.exemplars is not None}
    if entries.starter_tasks:
        texts.setdefault(GENERAL, starter_prompts()[GENERAL])
    return texts


def warn_of_exemplars(entries: File) -> Iterator[str]:
    """Yield a line for each set of exemplars that teaches too little, or in vain."""
    rules = rules_of_tasks(entries)
    sets = {
        "match.like": {name: m.like for name, m in rules if m.like and name in entries.tasks},
        "exemplars": {
            name: task.exemplars
            for name, task in entries.tasks.items()
            if task is not None and task.exemplars
        },
    }
    for field, texts in sets.items():
        for name, own in texts.items():
            if len(own) < ENOUGH:
                yield (
                    f"tasks.{name}.{field}: {len(own)} of the {ENOUGH} exemplars with which a task "
                    "is known well from others; add more of what it really gets"
                )
        if len(texts) == 1 and not entries.starter_tasks:
            yield (
                f"tasks.{next(iter(texts))}.{field}: one task alone is told from nothing; give "
                "another task exemplars too, or write starter_tasks: true"
            )
    yield from _warn_of_repeated(entries)
    yield from _warn_of_replaced(entries)
    yield from _warn_of_classify(entries)


def _warn_of_repeated(entries: File) -> Iterator[str]:
    """Yield texts that are exemplars more than once, shipped ones as well."""
    for one in repeated(prompt_exemplars(entries)):
        yield f"exemplars: {brief(one.text)}: {one}"
    rules = rules_of_tasks(entries)
    for one in repeated({name: match.like for name, match in rules if match.like is not None}):
        yield f"match.like: {brief(one.text)}: {one}"


def _warn_of_replaced(entries: File) -> Iterator[str]:
    """Yield starter tasks in whose place one is written that nothing marks."""
    if not entries.starter_tasks:
        return
    for name in File.model_construct(starter_tasks=True, tasks={}).starters:
        entry = entries.tasks.get(name)
        if name in entries.tasks and (entry is None or entry.match is None):
            yield (
                f"tasks.{name}: it replaces the starter task {name}, and nothing marks it: say "
                "match, or leave it to hints"
            )


def _warn_of_classify(entries: File) -> Iterator[str]:
    teaches = len(prompt_exemplars(entries)) > 1
    for name, app in entries.apps.items():
        if app.classify is not Classify.ROUTE:
            continue
        where = f"apps.{name}.classify: route"
        if not teaches:
            yield f"{where}: no two tasks have exemplars, so that it says nothing"
        elif app.locked:
            yield f"{where}: a locked app's calls keep their roles' endpoints; it only suggests"
        elif app.task is not None:
            yield f"{where}: every call is of task {app.task} already"
