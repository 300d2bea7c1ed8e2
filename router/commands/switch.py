"""`pointsman off` and `pointsman on`: they must work when little else does, and never refuse.

The file comes first: it switches whoever shares the state directory, and needs nobody, not even
the libraries that talk to a store. Then the store is told, for the others. What did not work is
said, and ends in 1.
"""

from __future__ import annotations

import time
from contextlib import closing, suppress
from pathlib import Path

from router.beliefs.switch import SwitchFile, SwitchWord, next_word, switch_of
from router.commands.console import FAILED, say
from router.config.masking import is_name_of_variable
from router.config.places import NoHome, Places, find_file, places, state_problem

UNREAD = "{} cannot be read ({}); does it name another state directory, or a store?"
MEANWHILE = "others go on saying something else to it; say it again"
TIMES = 3
"""A word is said so often to a store that hears a later one meanwhile."""


def switch(config: Path | None, *, off: bool) -> None:
    """Switch routing off or on; of the configuration only the two places are read."""
    file = find_file(config)
    where = places(file)
    said = _Said(off)
    said.to_file(where)
    said.to_store(where)
    if where.unread and (config is not None or file.exists()):
        said.problems.append(UNREAD.format(file, where.unread))
    word = "off" if off else "on"
    if said.directory is not None:
        known = "" if file.exists() else f" (the default: there is no {file})"
        told = " and everywhere on its store" if said.is_in_store else ""
        print(f"routing is {word} for sidecars with state in {said.directory}{known}{told}")
        if not (said.directory / "journal").is_dir():
            say("no sidecar has ever run there; is it another configuration's? See --config")
    elif said.is_in_store:
        print(f"routing is {word} everywhere on the store")
    for problem in said.problems:
        say(problem)
    if said.problems:
        raise SystemExit(FAILED)


class _Said:
    """What became of a word."""

    def __init__(self, off: bool) -> None:
        self.directory: Path | None = None  # where the file is in force
        self.is_in_store = False
        self.problems: list[str] = []
        self._off = off
        self._before: SwitchWord | None = None
        self._file: SwitchFile | None = None

    def to_file(self, where: Places) -> None:
        """Write the word into the state directory, with the time of this machine."""
        try:
            directory = where.state_dir
        except NoHome as error:
            self.problems.append(str(error))
            return
        file = SwitchFile(directory)
        try:
            self._before = file.read()
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            file.write(_word(self._off, self._before, None, time.time() * 1000))
        except OSError as error:
            told = state_problem(directory, error) or f"server.state_dir: {directory}: {error}"
            self.problems.append(told)
            return
        self.directory, self._file = directory, file

    def to_store(self, where: Places) -> None:
        """Tell the store, and give the file the time by the store's clock."""
        from telemetry.errors import TelemetryError
        from telemetry.store import StoreErrors
        from telemetry.trouble import trouble_of

        problem = ""
        if where.unset:
            named = where.unset if is_name_of_variable(where.unset) else "of store.url_env"
            problem = f"environment variable {named} is not set; export it"
        elif where.store_url:
            try:
                self._tell(where.store_url, where.store_prefix)
            except TelemetryError as error:
                problem = str(error)
            except StoreErrors as error:
                problem = trouble_of(error).shown
            else:
                problem = "" if self.is_in_store else MEANWHILE
        if problem:
            in_force = "; the file is in force" if self.directory else ""
            self.problems.append(f"its store was not told: {problem}{in_force}")

    def _tell(self, url: str, prefix: str) -> None:
        """Say it to the store until nothing later is there.

        Raises:
            TelemetryError, StoreErrors: the store did not hear it.
        """
        from router.beliefs.kept_switch import read_store, tell_store
        from telemetry import keys
        from telemetry.clock import StoreClock
        from telemetry.store import connect, parse_address

        keys.use_prefix(prefix)
        clock = StoreClock()
        with closing(connect(parse_address(url), timeout_s=1.0)) as client:
            clock.ask(client)
            for _ in range(TIMES):
                word = _word(self._off, self._before, read_store(client), clock.now_ms())
                self.is_in_store = tell_store(client, word)
                if self.is_in_store:
                    break
        if self._file is not None and self.is_in_store:
            with suppress(OSError):  # it holds the word already, by another clock
                self._file.write(word)


def _word(
    off: bool, in_file: SwitchWord | None, in_store: SwitchWord | None, now_ms: float
) -> SwitchWord:
    return next_word(switch_of(in_file, in_store), off=off, now_ms=int(now_ms))
