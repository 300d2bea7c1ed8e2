"""`pointsman ingest`: a file's rows to the sidecar, batch by batch.

The sidecar takes a batch whole or not at all, and says what is wrong with each event; those go to
a file beside the rows', with the reason, and the rest is sent again. Every event has an id that
depends on its row only, so that whatever was cut short is simply begun anew.
"""

from __future__ import annotations

import bisect
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from router.commands.console import BAD_INPUT, FAILED, VerbFailed, fail, print_json
from router.commands.ingest_file import BadFile, FileLine, Rows, open_rows
from router.commands.inputs import NO_POINTSMAN, NO_URL, sidecar
from telemetry.ingest import MAX_EVENTS
from telemetry.numbers import unsendable

MAX_BATCH_BYTES = 512 << 10
"""Of one request: far below what any sidecar takes."""
SHOWN_ERRORS = 10
TRIES = 6
PAUSE_S = 0.25
"""Before the second try; twice as long before each further one: eight seconds in all."""
SAY_EVERY_S = 5.0
CONTENT_TYPE = "application/cloudevents-batch+json"


class IngestStopped(Exception):
    """No further batch can be sent."""


@dataclass(slots=True)
class IngestResult:
    """What became of the rows."""

    file: str
    dry_run: bool
    n_accepted: int = 0
    n_rejected: int = 0
    seconds: float = 0.0
    errors: list[tuple[int, str]] = field(default_factory=list)  # the first of them, by line
    warnings: Counter[str] = field(default_factory=Counter)
    ignored: list[str] = field(default_factory=list)
    rejected_file: Path | None = None
    failure: str = ""
    is_refused: bool = False  # the caller's fault: a wrong key, a file that breaks off

    @property
    def n_rows(self) -> int:
        """How many rows were either taken or rejected; after a failure there may be more."""
        return self.n_accepted + self.n_rejected

    def reject(self, line: int, reason: str) -> None:
        """Count a row as rejected."""
        self.n_rejected += 1
        bisect.insort(self.errors, (line, reason))
        del self.errors[SHOWN_ERRORS:]

    def as_json(self) -> dict[str, Any]:
        """Return it as one JSON object."""
        return {
            "file": self.file,
            "dry_run": self.dry_run,
            "rows": self.n_rows,
            "accepted": self.n_accepted,
            "rejected": self.n_rejected,
            "errors": [{"line": line, "reason": reason} for line, reason in self.errors],
            "warnings": [{"message": m, "events": n} for m, n in self.warnings.most_common()],
            "ignored_columns": self.ignored,
            "rejected_file": str(self.rejected_file) if self.rejected_file else None,
            "failure": self.failure or None,
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True)
class RequestBatch:
    """Rows on their way, each with its event as JSON."""

    lines: list[FileLine] = field(default_factory=list)
    events: list[bytes] = field(default_factory=list)
    size: int = 0

    def add(self, line: FileLine, event: bytes) -> None:
        """Add one row."""
        self.lines.append(line)
        self.events.append(event)
        self.size += len(event) + 1

    def has_room(self, event: bytes) -> bool:
        """Return whether the event still fits into the request."""
        return len(self.events) < MAX_EVENTS and self.size + len(event) < MAX_BATCH_BYTES

    def body(self) -> bytes:
        """Return the request's body."""
        return b"[" + b",".join(self.events) + b"]"

    def without(self, wrong: set[int]) -> RequestBatch:
        """Return the batch less some of its rows."""
        left = RequestBatch()
        for i, (line, event) in enumerate(zip(self.lines, self.events, strict=True)):
            if i not in wrong:
                left.add(line, event)
        return left


def ingest(
    file: Path,
    *,
    form: str | None,
    source: str | None,
    url: str | None,
    key: str,
    config: Path | None,
    dry_run: bool,
    as_json: bool,
    ignore: Sequence[str] = (),
) -> None:
    """Send a file's rows and print what became of them, also where nothing did."""
    try:
        url, headers = sidecar(url, key, config)
        try:
            found = run(
                file,
                form=form,
                source=source,
                url=url,
                headers=headers,
                dry_run=dry_run,
                ignore=ignore,
            )
        except BadFile as error:
            fail(str(error), BAD_INPUT)
        except (httpx.UnsupportedProtocol, httpx.InvalidURL):
            fail(NO_URL.format(url), BAD_INPUT)
    except VerbFailed as error:
        if as_json:
            print_json(IngestResult(str(file), dry_run, failure=error.text).as_json())
        raise
    if as_json:
        print_json(found.as_json())
    else:
        show(found)
    if found.failure:
        fail(found.failure, BAD_INPUT if found.is_refused else FAILED)
    if found.n_rejected:
        raise SystemExit(FAILED)


def run(
    path: Path,
    *,
    form: str | None,
    source: str | None,
    url: str,
    headers: Mapping[str, str],
    dry_run: bool,
    ignore: Sequence[str] = (),
    transport: httpx.BaseTransport | None = None,
) -> IngestResult:
    """Send every row of a file; return what became of them.

    Args:
        transport: another way to the sidecar than by the network.

    Raises:
        BadFile: the file cannot be read from its beginning.
    """
    rows = open_rows(path, form=form, source=source, ignore=ignore)
    began_at = time.monotonic()
    sender = _Sender(IngestResult(str(path), dry_run), path, f"{url}/v1/events")
    more = {"content-type": CONTENT_TYPE, **({"x-router-dry-run": "1"} if dry_run else {})}
    try:
        with (
            httpx.Client(
                trust_env=False, timeout=30, headers={**headers, **more}, transport=transport
            ) as client,
            _progress(sender.found, rows) as advance,
        ):
            for batch in sender.batches(rows):
                sender.send(client, batch)
                advance()
    except IngestStopped as error:
        sender.found.failure = str(error)
    except BadFile as error:
        if not sender.has_begun:
            raise
        sender.found.failure, sender.found.is_refused = str(error), True
    finally:
        sender.close()
    sender.found.ignored = sorted(rows.maker.ignored)
    sender.found.seconds = time.monotonic() - began_at
    return sender.found


class _Sender:
    """Sends batches and books what became of them."""

    def __init__(self, found: IngestResult, path: Path, url: str) -> None:
        self.found = found
        self._path = path
        self._url = url
        self._rejects: Any = None
        self.has_begun = False

    def batches(self, rows: Rows) -> Iterator[RequestBatch]:
        """Yield rows in requests of a bounded size; what makes no event is rejected at once."""
        batch = RequestBatch()
        for line in rows:
            self.has_begun = True
            # Asked before it is encoded: of NaN the encoder would make null, which retracts.
            reason = line.reason or unsendable(line.event)
            if reason:
                self._reject(line, reason)
                continue
            try:
                event = msgspec.json.encode(line.event)
                if len(event) > MAX_BATCH_BYTES:
                    raise OverflowError(f"{len(event)} bytes are too many for one row")
            except (UnicodeEncodeError, RecursionError, TypeError, OverflowError) as error:
                self._reject(line, f"cannot be sent as JSON: {error}")
                continue
            if not batch.has_room(event):
                yield batch
                batch = RequestBatch()
            batch.add(line, event)
        if batch.events:
            yield batch

    def send(self, client: httpx.Client, batch: RequestBatch) -> None:
        """Send a batch until the sidecar took what is right in it.

        Raises:
            Stopped: it does not answer, or refuses the sender.
        """
        while batch.events:
            answer = self._post(client, batch.body())
            found = _read(answer)
            if answer.is_success and "accepted" in found:
                self.found.n_accepted += len(batch.events)
                for warning in found.get("warnings", []):
                    self.found.warnings[warning["message"]] += warning["events"]
                return
            error = found.get("error")
            said = error if isinstance(error, dict) else {}
            problems = said.get("problems")
            if not problems:
                self.found.is_refused = answer.status_code < 500
                raise IngestStopped(said.get("message") or self._no_pointsman(answer))
            for problem in problems:
                self._reject(batch.lines[problem["index"]], problem["message"])
            batch = batch.without({problem["index"] for problem in problems})

    def close(self) -> None:
        """Close the file of rejected rows."""
        if self._rejects is None:
            return
        try:
            self._rejects.close()
        except OSError as error:
            lost = f"{self.found.rejected_file}: not all of it was written ({error.strerror})"
            self.found.failure = self.found.failure or lost

    def _post(self, client: httpx.Client, body: bytes) -> httpx.Response:
        """Return an answer that is final; a sidecar that starts or is full is asked again."""
        for n in range(TRIES):
            if n:
                time.sleep(PAUSE_S * 2 ** (n - 1))
            try:
                answer = client.post(self._url, content=body)
            except (httpx.UnsupportedProtocol, httpx.InvalidURL):
                raise
            except httpx.TransportError as error:
                failure = f"no sidecar at {self._url} ({type(error).__name__})"
                if not self.found.n_accepted:  # one that took rows before may be starting anew
                    raise IngestStopped(f"{failure}; start it with `pointsman up`") from None
                continue
            if answer.status_code != 503:
                return answer
            failure = f"the sidecar takes no more now (status {answer.status_code})"
        done = f"{self.found.n_accepted} rows were taken; the same command goes on from there"
        raise IngestStopped(f"{failure}; {done}")

    def _no_pointsman(self, answer: httpx.Response) -> str:
        return NO_POINTSMAN.format(self._url, answer.status_code)

    def _reject(self, line: FileLine, reason: str) -> None:
        found = self.found
        found.reject(line.number, reason)
        if found.dry_run:
            return
        file = self._path.with_name(self._path.name + ".rejected.jsonl")
        entry = {"line": line.number, "reason": reason, "row": line.row}
        try:
            if self._rejects is None:
                self._rejects = file.open("w")
                found.rejected_file = file
            self._rejects.write(_shown(entry) + "\n")
        except OSError as error:
            why = f"{file}: cannot be written ({error.strerror})"
            raise IngestStopped(f"{why}; it is for the rows that were rejected") from None


def _shown(entry: dict[str, Any]) -> str:
    """Return a rejected row as JSON; what is nested too deep for that without its content."""
    try:
        return json.dumps(entry, default=str)
    except (RecursionError, ValueError):
        return json.dumps({**entry, "row": "(not shown)"})


def show(found: IngestResult) -> None:
    """Print what became of the rows."""
    if found.ignored:
        print(f"columns without a meaning here: {', '.join(found.ignored)}")
    for message, n in found.warnings.most_common():
        print(f"{n} rows: {message}")
    for line, reason in found.errors:
        print(f"line {line}: {reason}")
    if found.n_rejected > len(found.errors):
        print(f"… and {found.n_rejected - len(found.errors)} more")
    if found.rejected_file is not None:
        print(f"rejected rows, with reasons: {found.rejected_file}")
    verb = "would be taken" if found.dry_run else "taken"
    rate = found.n_accepted / max(found.seconds, 1e-3)
    print(
        f"{found.n_rows} rows: {found.n_accepted} {verb}, {found.n_rejected} rejected, "
        f"in {found.seconds:.1f} s ({rate:,.0f} a second)"
    )


def _read(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def _progress(found: IngestResult, rows: Rows) -> Iterator[Any]:
    """Yield what is called after each batch: a bar on a terminal, now and then a line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        said_at = time.monotonic()

        def say() -> None:
            nonlocal said_at
            if time.monotonic() - said_at >= SAY_EVERY_S:
                said_at = time.monotonic()
                counts = f"{found.n_accepted:,} rows, {found.n_rejected:,} rejected"
                print(f"{rows.done / max(rows.total, 1):.0%}: {counts}", file=sys.stderr)

        yield say
        return
    columns = (
        TextColumn(rows.path.name),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=None, counts="")

        def advance() -> None:
            counts = f"{found.n_accepted:,} rows, {found.n_rejected:,} rejected"
            progress.update(task, completed=rows.done, total=rows.total, counts=counts)

        yield advance
