"""A verb that is asked to end leaves nothing that runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router.commands.signals import ending_in_order

VERB = """
import sys, time
from pathlib import Path
from router.commands.inputs import opened_store
from router.config.file import parse
entries = parse(Path(sys.argv[1]).read_text(), file="a", secrets=False)
with opened_store(entries):
    print("open", flush=True)
    {waits}
"""
WAITS = {
    "plain": "time.sleep(30)",
    "in a loop": "import asyncio; asyncio.run(asyncio.sleep(30))",
}


@pytest.mark.parametrize(
    ("number", "waits"), [(signal.SIGHUP, "plain"), (signal.SIGTERM, "in a loop")]
)
def test_a_private_store_ends_with_the_verb_that_is_asked_to(
    state_dir: Path, number: signal.Signals, waits: str
) -> None:
    config = state_dir / "a.yaml"
    config.write_text(
        f"server: {{state_dir: {state_dir}/s}}\nendpoints: [{{id: a, model: m, base_url: 'http://h/v1'}}]\n"
    )
    words = [sys.executable, "-c", VERB.format(waits=WAITS[waits]), str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        server = int((state_dir / "s" / "store" / "server.pid").read_text())
        os.kill(server, 0)
        process.send_signal(number)
        assert process.wait(20) == 128 + number  # a busy store takes ten seconds to end
    deadline = time.monotonic() + 5
    while Path(f"/proc/{server}").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(ProcessLookupError):
        os.kill(server, 0)


def test_who_hears_a_signal_already_goes_on_to() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    by_hand = signal.signal(signal.SIGINT, signal.default_int_handler)  # others leave theirs
    try:
        with ending_in_order():
            signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with ending_in_order(), pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, by_hand)
