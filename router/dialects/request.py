"""What decision and policy see of a call, whatever dialect it came in.

Each dialect has its own class with these names; nothing past the dialects asks which.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from msgspec import Struct

from router.dialects.keeping import Keeping
from router.dialects.stored import StoredId, StoredKind
from router.dialects.stream import AnswerStream
from router.endpoints.catalog import Endpoint
from router.endpoints.entries import Dialect
from telemetry.wire.usage import WholeAnswer


class Structure(Struct, frozen=True):
    """What of a request structural rules may look at."""

    tools: tuple[str, ...] = ()  # names, those of groups of tools as well
    has_schema: bool = False
    has_image: bool = False
    system: str = ""
    groups: int = 0  # of the names of tools

    @property
    def n_tools(self) -> int:
        """How many tools there are; a group counts as those in it."""
        return len(self.tools) - self.groups


PLAIN = Structure()
"""Of a request that has nothing that rules may look at."""


class Opening(Struct, frozen=True):
    """What users say in a conversation that has no answer yet."""

    text: str = ""  # empty where it is long
    is_long: bool = False  # nobody looks at it


class BodyHints(Struct, frozen=True, forbid_unknown_fields=True):
    """The body object `router`."""

    task: str | None = None
    complexity: str | None = None
    strategy: str | None = None
    role: str | None = None
    user: str | None = None
    session_id: str | None = None
    episode_id: str | None = None
    prompt: str | None = None
    ref: str | None = None
    data_class: str | None = None
    explore: bool | None = None
    max_cost_usd: float | None = None
    max_latency_ms: float | None = None
    dry_run: bool | None = None
    profile: bool | None = None
    tags: dict[str, Any] | None = None


NO_HINTS = BodyHints()


class Declared(Struct, frozen=True):
    """What a body says of who asks, beside what is asked."""

    hints: BodyHints = NO_HINTS
    user: str | None = None
    cache_key: str | None = None  # names a session, together with a user
    reference: str | None = None


NOTHING_DECLARED = Declared()
"""Of a body that is not read: hints come from headers alone."""


class Outgoing(Protocol):
    """What goes out of a call to one endpoint, and how its answer comes back to the caller."""

    @property
    def dialect(self) -> Dialect:
        """The dialect that it is in."""

    @property
    def is_translated(self) -> bool:
        """Whether the caller speaks another."""

    @property
    def left_out(self) -> Sequence[str]:
        """The names of fields of the call that it does not carry."""

    @property
    def streamed(self) -> bool:
        """Whether the answer is to come in pieces."""

    @property
    def repeatable(self) -> bool:
        """Whether it stores nothing at the provider, so that it may go out twice."""

    def keeping_at(self, endpoint: Endpoint) -> Sequence[Keeping]:
        """Return what it keeps at an endpoint, or has passed on, beside being answered.

        What the endpoint's own `params` ask for counts as asked.
        """

    def fields(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Return the top-level fields that an endpoint gets, as JSON, without what we add."""

    def rewritten(self, endpoint: Endpoint, *, ask_usage: bool = True) -> tuple[bytes, bool]:
        """Return the body for an endpoint, and whether its usage chunk must be hidden."""

    def open_stream(self, *, hide_usage: bool) -> AnswerStream:
        """Return a reader of the streamed answer, which passes on what the caller reads."""

    def read_answer(self, body: bytes) -> WholeAnswer | None:
        """Return what is read of an unstreamed answer; None where there is no answer in it."""

    def as_callers(self, answer: bytes) -> bytes | None:
        """Return an unstreamed answer as its caller reads it; None where it cannot be said."""

    def refusal_as_callers(self, status: int, body: bytes) -> bytes:
        """Return a provider's refusal as its caller reads it."""

    def instead_as_callers(self, status: int, body: bytes) -> tuple[int, bytes] | None:
        """Return status and body that tell of what came for an answer; None: it says nothing."""


class CallRequest(Outgoing, Protocol):
    """A request of any dialect, as it came."""

    @property
    def model(self) -> str:
        """The `model` field."""

    @property
    def body(self) -> bytes:
        """The request as it came."""

    @property
    def says_something(self) -> bool:
        """Whether its answer says something that a label may be read off."""

    @property
    def kept(self) -> StoredKind | None:
        """What its answer is at the provider from then on, under its id; None: it is not kept."""

    @property
    def keeping(self) -> Sequence[Keeping]:
        """What it keeps at its provider, or has passed on, beside being answered."""

    def offered(self) -> Sequence[str]:
        """Return the names of all tools that it offers, whatever their kind."""

    def kept_nowhere(self) -> CallRequest:
        """Return it with what is kept by default alone forced off, and every other byte as it came.

        What the caller asked for stays: look at `keeping`.
        """

    @property
    def continued(self) -> StoredId | None:
        """What it goes on from that lies at a provider."""

    @property
    def references(self) -> Sequence[StoredId]:
        """What lies at a provider that it holds the names of only, in order."""

    @property
    def declared(self) -> Declared:
        """What it says of who asks."""

    @property
    def needs(self) -> int:
        """The capabilities that it needs, as bits of `Needs`; but for parallel tools."""

    @property
    def text_bytes(self) -> int:
        """The size of its text; data of pictures, sounds and documents does not count."""

    @property
    def n_answers(self) -> int:
        """How many answers the caller wants, each of up to `output_limit` tokens."""

    @property
    def n_prompts(self) -> int:
        """How many prompts it has, each of which is answered."""

    @property
    def output_limit(self) -> int | None:
        """The most tokens that the caller wants."""

    @property
    def thoughts(self) -> Sequence[str]:
        """The marks of thoughts that it carries, in the order of the conversation."""

    def bound_thoughts(self, endpoint: Endpoint) -> Sequence[str]:
        """Return the marks of thoughts that an endpoint must be sent, or cannot go on."""

    def without_thoughts(self, marks: Collection[str]) -> CallRequest:
        """Return it without these; everything else is the bytes that came."""

    def structure(self, *, read_system: bool) -> Structure:
        """Return what structural rules may look at; the system prompt only where one does."""

    def system(self) -> str:
        """Return its system prompt; empty where it has none."""

    def calls_together(self) -> bool:
        """Return whether some turn in it calls several tools at once.

        All of a conversation is looked through for that: asked only where some endpoint minds.
        """

    def conversation(self) -> Sequence[bytes]:
        """Return its messages."""

    def renamed(self, model: str) -> bytes:
        """Return the body with another model and without what is for us; else as it came."""

    def without_hints(self) -> bytes:
        """Return the body without what is for us."""

    def as_stream(self, answer: bytes) -> bytes:
        """Return a whole answer as a stream, for a client whose stream has begun."""

    def earlier(self) -> Sequence[bytes] | None:
        """Return the messages that an earlier call of this conversation sent, if there was one.

        Everything before the last assistant message is what that call was asked.
        """

    def opening(self) -> Opening | None:
        """Return what its user says, where it begins a conversation; else None.

        What is long is not read; what stays from call to call is not taken out.
        """
