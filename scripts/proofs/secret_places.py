"""What may hold a secret, by name and with its reason; whatever is not here is a hit."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """Secrets that may stand in a place: both are whole names, as patterns."""

    secret: str
    place: str
    reason: str

    def covers(self, secret: str, place: str) -> bool:
        """Return whether this secret may stand in this place."""
        return bool(re.fullmatch(self.secret, secret) and re.fullmatch(self.place, place))


PRIVATE = ("configuration.json", "secrets.json")
"""Files in the state directory that must be nobody else's to read."""
REFUSED = "a refusal repeats the wrong value to whoever sent it, in the same request, and to nobody"
MODEL = "who is called is booked by name, and reports name an unlisted model as its caller wrote it"
ALLOWED: tuple[Allowance, ...] = (
    Allowance(
        r"(user|password) in base_url|value of a parameter in the configuration",
        r"file state/configuration\.json",
        "the configuration in force is kept as it was written, in a file of mode 0600",
    ),
    Allowance(
        "secret of the store: .*",
        r"file state/secrets\.json|store pm:(secret|secret:draws|seal|seals)"
        r"|file store/appendonlydir/.*\.aof",
        "the store has it, and each router keeps it, in a file of mode 0600",
    ),
    *(
        Allowance(secret, f"answer: {case}", REFUSED)
        for secret, case in (
            ("content-encoding", "coding"),
            ("data class that is not known", "x-router-data-class"),
            ("strategy that is not known", "x-router-strategy"),
            ("task that is not known", "task"),
            ("name of a hint that is not known", "unknown hint"),
            ("model asked for", "no such model"),
            ("feedback: decision id", "feedback, decision id"),
            ("feedback: kind", "feedback, kind"),
            ("feedback: match", "feedback, match"),
            ("feedback: name of a field", "feedback, unknown field"),
            ("feedback: revision", "feedback, revision"),
            ("feedback: value", "feedback, value"),
            ("event: endpoint", "event, endpoint"),
            ("event: name of a field", "event, field"),
            ("event: task", "event, task"),
            ("event: value", "event, value"),
            ("content-type", "event, content-type"),
            (r"decision id, (.*)", r"a decision, (.*)"),
        )
    ),
    *(
        Allowance("model that is not listed", place, MODEL)
        for place in (
            "answer: unlisted",
            "store pm:names",
            r"file store/appendonlydir/.*\.aof",
            r"file state/archive/.*\.parquet(, unpacked)?",
            "verb report(, broken configuration)?",
        )
    ),
)
MEANWHILE = ", store away"
"""Of a place that was looked at while the store was away: the same holds for it."""


def allowance(secret: str, place: str) -> str | None:
    """Return why a secret may stand in a place; None where it may not."""
    place = place.removesuffix(MEANWHILE) if place.startswith("file ") else place
    return next((each.reason for each in ALLOWED if each.covers(secret, place)), None)


def is_private(name: str) -> bool:
    """Return whether a file may hold a secret, so that nobody else may read it."""
    return name in PRIVATE
