"""The audit: is the state what the records say?

Each file of the archive is checked on its own: the checkpoint before it and its records, folded
by the learner's own code, must give the checkpoint at its end, byte for byte. Last come the
entries that are in the stream still, and the rows in the store. Labels are rebuilt on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from workers.archive import files as archive_files
from workers.archive.archive import Archive, locked, n_missing
from workers.archive.files import ArchiveFile, Damaged
from workers.archive.rebuilt import Rebuilt, damaged_rows, difference, named
from workers.folding.batch import START, position

TRIES = 5
"""The archive may move on while the stream is read; then the new files come first."""


@dataclass(slots=True)
class AuditResult:
    """What an audit found."""

    shards: int = 0
    files: int = 0
    records: int = 0
    rows: int = 0  # compared, at all checkpoints together
    equal: bool = True
    difference: str | None = None  # the first one
    different: int = 0  # checkpoints that differ, and files that cannot be checked
    damaged: list[str] = field(default_factory=list)  # rows in the store that no records add up to

    def as_json(self) -> dict[str, object]:
        """Return it as one object."""
        return asdict(self)

    def add(self, other: AuditResult) -> None:
        """Add what was found of one shard."""
        self.files += other.files
        self.records += other.records
        self.rows += other.rows
        self.different += other.different
        self.equal &= other.equal
        self.difference = self.difference or other.difference
        self.damaged += other.damaged

    def note(self, where: str, what: str | None) -> None:
        """Note a difference, or none."""
        if what is not None:
            self.equal, self.different = False, self.different + 1
            self.difference = self.difference or f"{where}: {what}"


def audit_state(archive: Archive, *, between: Callable[[], object] = lambda: None) -> AuditResult:
    """Return whether every shard's state follows from its records.

    Args:
        between: called after each file, for who has something else to do meanwhile.
    """
    found = AuditResult(shards=archive.n_shards)
    for shard in range(archive.n_shards):
        # Shared with other audits; whoever deletes old files waits, whoever archives does not.
        with locked(archive.directory(shard), "readers.lock", shared=True):
            found.add(_audit_shard(archive, shard, between))
    return found


def _audit_shard(archive: Archive, shard: int, between: Callable[[], object]) -> AuditResult:
    for _ in range(TRIES):
        with suppress(FileNotFoundError):  # a new file took the place of one that we meant to read
            return _try_shard(archive, shard, between)
    found = AuditResult()
    found.note(f"shard {shard}", "its files change faster than they can be read")
    return found


def _try_shard(archive: Archive, shard: int, between: Callable[[], object]) -> AuditResult:
    found, state = AuditResult(), Rebuilt()
    done: set[ArchiveFile] = set()
    for _ in range(TRIES):
        files = archive_files.list_files(archive.directory(shard))
        if not done.issubset(files):
            raise FileNotFoundError
        for chain in archive_files.chains(files):
            if not done.issuperset(chain):
                state = _audit_chain(chain, state, done, found, between)
        if _audit_live(archive, shard, state, found):
            return found
    found.note(f"shard {shard}", "the archive moves on faster than the stream can be read")
    return found


def _audit_chain(
    chain: list[ArchiveFile],
    state: Rebuilt,
    done: set[ArchiveFile],
    found: AuditResult,
    between: Callable[[], object],
) -> Rebuilt:
    """Check the files of a chain that were not yet; return the state at its end."""
    if not done.intersection(chain):
        state = Rebuilt()
        if not archive_files.is_whole(chain):
            found.note(chain[0].path.name, "the file before it is missing")
    for file in chain:
        if file in done:
            continue
        done.add(file)
        between()
        try:
            content = archive_files.read(file)
        except Damaged as error:
            found.note(file.path.name, str(error))
            continue
        stored = Rebuilt()
        stored.stand_at(content)
        if file.start == state.mark:
            before = state.n_records
            state.follow(content)
            _compare(state, stored, file.path.name, found)
            found.records += state.n_records - before
        elif not file.is_base and file is not chain[0]:
            found.note(file.path.name, "the file before it cannot be read")
        found.files += 1
        state.stand_at(content)  # each file answers for itself
    return state


def _audit_live(archive: Archive, shard: int, state: Rebuilt, found: AuditResult) -> bool:
    """Check stream and rows in the store; return False where the archive moved on meanwhile."""
    where, content = f"shard {shard}", archive.state(shard)
    found.damaged = [f"{where}: {named(name)}" for name in damaged_rows(content.rows)]
    archived = content.meta.get(b"archived", START)
    if position(archived) > position(state.mark):
        if any(u.mark == archived for u in archive_files.list_files(archive.directory(shard))):
            return False
        found.note(where, f"no file here ends at the archived mark {archived.decode()}")
        return True
    if position(content.mark) < position(state.mark):
        found.note(where, "the store has less than its archive")
        return True
    # A file may be ahead of the archived mark: its archiver was killed before it moved that.
    content.entries = archive.entries(shard, state.mark, content.mark)
    if missing := n_missing(content, since=state.n_bytes):
        if archive.state(shard).meta.get(b"archived", START) != archived:
            return False
        if missing > 0:
            found.note(where, f"{missing} bytes of its stream went before they were archived")
        else:
            began = "the store began anew after its last file"
            found.note(where, f"{began}; it can be checked once the next one is written")
        return True
    stored = Rebuilt()
    stored.stand_at(content)
    before = state.n_records
    state.follow(content)
    found.records += state.n_records - before
    _compare(state, stored, f"{where} in the store", found)
    return True


def _compare(state: Rebuilt, stored: Rebuilt, where: str, found: AuditResult) -> None:
    state.mark = stored.mark
    state.forget()
    stored.forget()
    found.rows += len(stored.rows)
    found.note(where, difference(state, stored))
