"""The supervisor goes on, whatever does not start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from router.commands.supervisor import PORT, Part, Running, Supervisor
from telemetry.embedded import PrivateServer, server_program


@pytest.fixture(autouse=True)
def _signals() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def asking(stop: Callable[[], bool]) -> Callable[[], None]:
    """What asks this process to end, as a terminal would, once something has come about."""

    def ask() -> None:
        if stop():
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


@pytest.mark.slow
def test_a_store_that_does_not_start_is_tried_again(
    state_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    broken, program = state_dir / "broken", state_dir / "server"
    program.write_text(f'#!/bin/sh\n[ -e {broken} ] && exit 1\nexec {server_program()} "$@"\n')
    program.chmod(0o700)
    n_tended = 0
    with PrivateServer(state_dir / "store", program=str(program)) as server:

        def tend() -> None:
            nonlocal n_tended
            n_tended += 1
            if n_tended == 1:
                broken.touch()
                os.kill(int((server.directory / "server.pid").read_text()), signal.SIGKILL)
                return
            if n_tended == 5:
                broken.unlink()
            server.revive()
            asking(server.is_up)()

        began = time.monotonic()
        Supervisor([], tend=tend, tend_every_s=0.05).run()

        assert server.is_up()
        assert n_tended >= 5
        assert time.monotonic() - began < 20
    assert capfd.readouterr().err.count("cannot be started") == 1


@pytest.mark.slow
def test_a_part_that_cannot_be_started_is_tried_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    program, ran = tmp_path / "part", tmp_path / "ran"
    program.write_text(f"#!/bin/sh\ntouch {ran}\nsleep 60\n")
    program.chmod(0o700)
    part = Running(Part("part", [str(program)]), longest_pause_s=0.1, pause_s=0.05)
    n_tended = 0

    def tend() -> None:
        nonlocal n_tended
        n_tended += 1
        if n_tended == 1:
            program.rename(tmp_path / "away")
            assert part.process is not None
            os.killpg(part.process.pid, signal.SIGKILL)
            part.process.wait()
            ran.unlink(missing_ok=True)
        if n_tended == 10:
            (tmp_path / "away").rename(program)
        asking(ran.exists)()

    Supervisor([part], tend=tend, tend_every_s=0.05).run()

    assert n_tended > 10
    assert "cannot be started" in capfd.readouterr().err


@pytest.mark.parametrize(("writes", "said"), [("4711", 1), (None, 0)])
def test_what_is_said_once_it_listens_is_said_then_and_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], writes: str | None, said: int
) -> None:
    """However often somebody looks; and never of a part that ended without."""
    ready, n_tended = tmp_path / "router.port", 0
    program = tmp_path / "part"
    lasts = f"sleep .1; printf {writes} > {ready}; exec sleep 60" if writes else "exit 3"
    program.write_text(f"#!/bin/sh\n{lasts}\n")
    program.chmod(0o700)

    def tend() -> None:
        nonlocal n_tended
        n_tended += 1
        asking(lambda: n_tended == 4)()

    code = Supervisor(
        [Running(Part("part", [str(program)]))],
        tend=tend,
        tend_every_s=0.02,
        first_ready=ready,
        greeting=f"listening at {PORT}",
    ).run()

    assert code == (0 if writes else 3)
    assert capfd.readouterr().err.count("listening at 4711\n") == said


def test_a_child_from_before_is_seen_to_like_any_other() -> None:
    """As of a process that became the supervisor: it did not start the child by itself."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(theirs)
        os._exit(7 if os.read(ours, 99) == b"/ready\n" else 1)
    running = Running(Part("router", []))

    running.adopt(pid, theirs, Path("/ready"))

    assert running.process is not None
    assert running.process.wait(10) == 7
    assert running.process.poll() == 7
    running.process.terminate()  # it is gone: nothing happens
    os.close(ours)


def test_a_child_from_before_that_does_not_end_is_killed() -> None:
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
        os._exit(0)
    ours, theirs = os.pipe()
    os.close(ours)  # it does not listen
    running = Running(Part("router", [], stop_s=0.5))
    running.adopt(pid, theirs, Path("/ready"))
    time.sleep(0.2)

    running.ask()
    running.see_off()

    assert running.process is not None
    assert running.process.poll() == -signal.SIGKILL
