"""The closed lists of words: codes of exclusions and errors, and how explanations open."""

from __future__ import annotations

from bandit.steps import Step
from router.config.exclusions import BINDING, EXCLUSIONS_VERSION, POLICY, Exclusion
from router.config.rules import Level
from router.decision.reasons import REASONS_VERSION, Reason
from router.decision.ways import DecisionWay
from router.errors import STATUS
from router.policy.tasks import FoundBy
from scripts.schemas.shapes import Schema, words


def codes() -> Schema:
    """Return every list under `$defs`; a word that is any of them is sound."""
    lists: dict[str, Schema] = {
        "exclusion": {
            "description": "Why an endpoint may not serve a call; what it is about may follow",
            "x-version": EXCLUSIONS_VERSION,
            "x-of-the-policy": [code.value for code in Exclusion if code in POLICY],
            "x-in-every-mode": [code.value for code in Exclusion if code in BINDING],
            **words(Exclusion),
        },
        "opening_word": {
            "description": "How the sentence begins that says why a call went where it went",
            "x-version": REASONS_VERSION,
            **words(Reason),
        },
        "error": {
            "description": "Code of an error of ours, and its HTTP status",
            "x-status": dict(STATUS),
            **words(STATUS),
        },
        "level": {
            "description": "Who says something of a call, the nearest to it first",
            **words(Level),
        },
        "found_by": {"description": "What said which task a call is of", **words(FoundBy)},
        "way": {
            "description": "In which way a call of a session came to its endpoint",
            **words(DecisionWay),
        },
        "step": {"description": "Which step of the law chose", **words(Step)},
    }
    return {
        "title": "Codes",
        "description": "Closed lists: words are only ever added, with a new version of the list",
        "$defs": lists,
        "anyOf": [{"$ref": f"#/$defs/{name}"} for name in lists],
    }
