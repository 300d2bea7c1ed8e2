"""Every place in which a secret could lie: files with what is packed in them, the store, commands.

A place is a name and its bytes. Parquet is read and SQLite unpacked: a byte search of what is
compressed would find nothing whatever it held.
"""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import polars as pl

from router.explain.rows import PackedRows
from telemetry.store import Client

Place = tuple[str, bytes]


def files_in(root: Path) -> Iterator[Place]:
    """Yield every file below a directory, and what is packed in it."""
    for path in sorted(root.rglob("*")):
        if path.is_file() and not path.is_symlink():
            name = f"file {path.relative_to(root)}"
            yield name, path.read_bytes()
            if ".sqlite" in path.name and not path.name.endswith(("-wal", "-shm")):
                yield f"{name}, unpacked", b"\n".join(_in_sqlite(path))
            if path.suffix == ".parquet":
                yield f"{name}, unpacked", b"\n".join(_in_parquet(path))


def names_of_files_in(root: Path) -> Place:
    """Return the names of all files: they are written, too."""
    return "names of files", "\n".join(str(path) for path in root.rglob("*")).encode()


def in_store(client: Client) -> Iterator[Place]:
    """Yield every key of a store with its whole value."""
    for key in client.scan_iter(count=1000):
        shown = key.decode("utf-8", "replace")
        yield f"store {shown}", b"\n".join([key, *_flat(_value(client, key))])


def _value(client: Client, key: bytes) -> Any:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"stream":
            return client.xrange(key)
        case b"zset":
            return client.zrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case b"list":
            return client.lrange(key, 0, -1)
    return None


def _flat(value: Any) -> Iterator[bytes]:
    """Yield all bytes in nested values; what is packed also unpacked."""
    if isinstance(value, bytes):
        yield value
        yield from _unpacked(value)
    elif isinstance(value, str):
        yield value.encode("utf-8", "surrogatepass")
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _flat(pair)
    elif isinstance(value, list | tuple | set):
        for part in value:
            yield from _flat(part)


def _unpacked(value: bytes) -> Iterator[bytes]:
    """Yield a value without zlib, and without the base64 around that which rq writes.

    Decisions are packed in a layout of their own.
    """
    with suppress(ValueError):
        yield repr(PackedRows(value).rows()).encode()
    with suppress(zlib.error):
        yield zlib.decompress(value)
    with suppress(zlib.error, ValueError):
        yield zlib.decompress(base64.b64decode(value, validate=True))


def _in_sqlite(path: Path) -> Iterator[bytes]:
    with closing(sqlite3.connect(path, timeout=5)) as database:
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f'select * from "{table}"'):  # noqa: S608 - its own name
                yield from _flat(row)


def _in_parquet(path: Path) -> Iterator[bytes]:
    for column in pl.read_parquet(path).get_columns():
        if column.dtype in (pl.String, pl.Binary):
            yield from _flat(column.to_list())
        else:
            yield str(column.to_list()).encode()


def command_lines() -> Iterator[Place]:
    """Yield how every process of this machine was started, where that can be seen."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield "command lines", path.read_bytes()
        except OSError:
            continue  # it ended
