"""Why a store does not do what it is asked: its own word, what that means, and what to do.

One table for log, report and readiness. Nothing that was sent is repeated: servers quote commands
and their arguments in some of their errors, and a client library its settings.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

import redis
from redis import exceptions
from redis.sentinel import MasterNotFoundError

from telemetry.memory import TO_SET

STORE_VARIABLE = "REDIS_URL"
"""What names the store, in every fix."""
MAX_SAID = 160
"""Characters of a server's own words."""
WORD = r"(?:^|error: |: -?)(?:{})\b"
"""A server's first word, also behind what a script or a pipeline puts before it."""


@dataclass(frozen=True, slots=True)
class StoreTrouble:
    """Why a store does not do what it is asked, to be shown to anybody."""

    kind: str  # one word, for programs
    reason: str  # what it means; the subject is the store
    said: str  # the server's or the system's own words, without anything that was sent
    fix: str
    answers: bool  # it is there, and refuses

    def as_json(self) -> dict[str, Any]:
        """Return it as one object."""
        return asdict(self)

    def told(self, *, named: str = STORE_VARIABLE) -> dict[str, str]:
        """Return the fields of a line of log.

        Args:
            named: the environment variable that names this store.
        """
        fix = self.fix.replace(STORE_VARIABLE, named)
        return {"reason": self.reason, "said": self.said, "fix": fix}

    @property
    def shown(self) -> str:
        """Return it as one line."""
        said = f" ({self.said})" if self.said else ""
        return f"{self.reason}{said}: {self.fix}"


@dataclass(frozen=True, slots=True)
class _Row:
    kind: str
    errors: tuple[type[BaseException], ...]
    text: str  # what its words match
    reason: str
    fix: str
    answers: bool = True


SCRIPTS = "scripts"
TABLE = (
    _Row(
        SCRIPTS,
        (),
        r"(?i)'(eval|evalsha|script)[|\w]*' command|unknown command ['`]?(eval|evalsha|script)\b",
        "its user may not run scripts, or it runs none",
        "give the user of REDIS_URL +@scripting; a service without scripts cannot be the store",
    ),
    _Row(
        "rights",
        (exceptions.NoPermissionError,),
        WORD.format("NOPERM"),
        "its user may not do this",
        "give the user of REDIS_URL the right to read, write, publish and run scripts",
    ),
    _Row(
        "no_password",
        (),
        WORD.format("NOAUTH") + r"|Authentication required|HELLO must be called with the client",
        "it asks for a password",
        "put user and password into REDIS_URL, percent-encoded",
    ),
    _Row(
        "wrong_password",
        (exceptions.AuthenticationError,),
        WORD.format("WRONGPASS") + r"|invalid username-password pair|invalid password"
        r"|without any password configured",
        "it turns down user or password",
        "put the right ones into REDIS_URL, percent-encoded",
    ),
    _Row(
        "database",
        (),
        r"DB index is out of range|invalid DB index|SELECT is not allowed in cluster",
        "it has no database of that number",
        "name one that it has at the end of REDIS_URL, such as /0; a cluster has that one only",
    ),
    _Row(
        "cluster",
        (exceptions.AskError, exceptions.ClusterDownError, exceptions.ClusterCrossSlotError),
        WORD.format("MOVED|ASK|CLUSTERDOWN|CROSSSLOT") + r"|Hash slot not served",
        "it is one node of a cluster, and does not serve every key",
        "begin REDIS_URL with redis+cluster://; where it does, CLUSTER INFO says what is missing",
    ),
    _Row(
        "no_cluster",
        (),
        r"Cluster mode is not enabled|cluster support disabled",
        "it is no cluster",
        "begin REDIS_URL with redis:// (or rediss://)",
    ),
    _Row(
        "no_sentinel",
        (),
        r"unknown command ['`]?SENTINEL",
        "it is no sentinel",
        "name the sentinels and their port in REDIS_URL, or begin it with redis://",
    ),
    _Row(
        "memory",
        (exceptions.OutOfMemoryError,),
        WORD.format("OOM"),
        "its memory is full",
        TO_SET,
    ),
    _Row(
        "disk",
        (),
        WORD.format("MISCONF"),
        "it cannot write to its disk",
        "make room on the store's disk; its log says more",
    ),
    _Row(
        "replica",
        (exceptions.ReadOnlyError,),
        WORD.format("READONLY"),
        "it is a replica, which only reads",
        "name the primary in REDIS_URL",
    ),
    _Row(
        "replicas",
        (),
        WORD.format("NOREPLICAS"),
        "it has too few replicas",
        "bring them back, or lower min-replicas-to-write",
    ),
    _Row(
        "clients",
        (),
        r"max number of clients reached",
        "it has as many clients as it takes",
        "raise its maxclients, or end others",
    ),
    _Row(
        "loading",
        (exceptions.BusyLoadingError,),
        WORD.format("LOADING"),
        "it is still loading its data",
        "wait; its log says how far it is",
        answers=False,
    ),
    _Row(
        "name",
        (),
        r"Error -\d+ connecting|Name or service not known|name resolution|nodename nor servname",
        "its name cannot be resolved",
        "correct the host in REDIS_URL, or DNS",
        answers=False,
    ),
    _Row(
        "certificate",
        (),
        r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|[Hh]ostname mismatch",
        "its certificate is not trusted",
        "name its signer by ?ssl_ca_certs=FILE in REDIS_URL, and the host as the certificate does",
        answers=False,
    ),
    _Row(
        "tls",
        (),
        r"SSL|wrong version number|record layer",
        "the two do not come to terms about TLS",
        "rediss:// is for a port that speaks TLS, redis:// for one that does not; "
        "one that wants a certificate takes ?ssl_certfile=FILE&ssl_keyfile=FILE",
        answers=False,
    ),
    _Row(
        "refused",
        (ConnectionRefusedError,),
        r"Connection refused|Connect call failed",
        "nothing listens there",
        "start it, or correct host and port in REDIS_URL",
        answers=False,
    ),
    _Row(
        "socket",
        (FileNotFoundError,),
        r"Error 2 connecting",
        "there is no such socket",
        "start it, or correct the path in REDIS_URL",
        answers=False,
    ),
    _Row(
        "primary",
        (MasterNotFoundError,),
        r"No master found",
        "the sentinels name no primary",
        "correct the name of the service in REDIS_URL; the sentinels' log says whom they see",
        answers=False,
    ),
    _Row(
        "silent",
        (exceptions.TimeoutError, TimeoutError),
        r"[Tt]imed? ?out",
        "it does not answer in time",
        "see whether it lives and a firewall lets it be reached; a port without TLS takes redis://",
        answers=False,
    ),
)
"""The first row that fits counts: what is told by its words before what is told by its class."""
OTHER = _Row("other", (), "", "it refuses a command", "the store's log says more")
AWAY = _Row(
    "away",
    (),
    "",
    "it ends the connection or cannot be reached",
    "see whether it lives, and its log; a port that speaks TLS takes rediss://",
    answers=False,
)


def trouble_of(error: BaseException) -> StoreTrouble:
    """Return why a store did not do what it was asked."""
    # What stands before is the command that failed, with its arguments.
    text = str(error).rpartition("caused error: ")[2].rpartition("reachable node: ")[2]
    row = next((row for row in TABLE if re.search(row.text, text)), None)
    if row is None:
        row = next((row for row in TABLE if isinstance(error, row.errors)), None)
    if row is None:
        row = OTHER if isinstance(error, redis.ResponseError) else AWAY
    return StoreTrouble(row.kind, row.reason, _said(error, text), row.fix, row.answers)


def _said(error: BaseException, text: str) -> str:
    """Return the words of an error without what was sent, or its name where it has none."""
    for end in (", with args", " : "):  # arguments; the settings of a client
        text = text.partition(end)[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= MAX_SAID else f"{text[:MAX_SAID]}…"
