"""What each long-lived process must not load: it would cost memory, and a slower start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bandit import special
from telemetry.store import Address

SERVE = """
import sys
from router.commands.router_process import main
sys.argv[1:] = ["serve", "--config", "/nowhere/pointsman.yaml"]
try:
    main()
except SystemExit:
    pass
"""
NEVER = {"polars", "rq", "rich.console", "opentelemetry", "jinja2", "scipy.stats", "unittest"}
NUMPY_EXTRA = {"scipy.special", "numpy.testing", "numpy.f2py"}
LIGHT = {"numpy", "redis", "structlog", "msgspec", "pydantic", "asyncio", "typer"}


@pytest.mark.parametrize(
    ("entry", "unwanted"),
    [
        (SERVE, NEVER | NUMPY_EXTRA | {"typer", "click", "pygments"}),
        ("import workers.__main__, workers.folding.learner, workers.jobs.clock", NEVER),
        ("import workers.observer.__main__", NEVER | {"numpy", "jsonschema_rs", "pydantic"}),
        ("import router.commands.supervisor", NEVER | LIGHT),
    ],
    ids=["router", "worker", "observer", "supervisor"],
)
def test_a_long_lived_process_loads_nothing_that_it_hardly_ever_needs(
    entry: str, unwanted: set[str]
) -> None:
    code = f"{entry}\nimport sys\nprint('serving' if 'router.server' in sys.modules else '')\n"
    code += f"print(*sorted(set({unwanted!r}) & {{n for n, m in sys.modules.items() if m}}))"

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout.splitlines()[-2:] == ["serving" if entry is SERVE else "", ""]


def test_the_functions_of_probability_are_scipys_own() -> None:
    from scipy import special as whole

    for name in [
        "bdtr",
        "betainc",
        "betaincinv",
        "expit",
        "log_ndtr",
        "ndtr",
        "ndtri",
        "stdtr",
        "stdtrit",
    ]:
        assert isinstance(getattr(special, name), np.ufunc)
        assert getattr(special, name) is getattr(whole, name)


@pytest.mark.parametrize("first", ["", "import scipy.special\n"])
def test_all_of_scipy_can_be_had_before_and_after(first: str) -> None:
    code = "from bandit.special import ndtr\nfrom scipy import optimize, stats\n"
    code += "assert abs(stats.norm.cdf(.3) - ndtr(.3)) < 1e-15\n"
    code += "import scipy.special\nassert scipy.special.gamma(5) == 24\n"

    subprocess.run([sys.executable, "-c", first + code], check=True, timeout=60)


def test_where_scipy_has_no_such_part_all_of_it_is_loaded() -> None:
    code = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        whole = getattr(sys.modules.get("scipy.special"), "__file__", None)
        if name == "scipy.special._ufuncs" and not whole:
            raise ImportError(name)

sys.meta_path.insert(0, Hidden())
from bandit.special import ndtr
import scipy.special
assert ndtr is scipy.special.ndtr
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_libraries_are_spared_only_what_they_do_not_need() -> None:
    code = """
from telemetry.processes import sparing
import sys
with sparing():
    import redis, structlog
assert not {"rich", "opentelemetry"} & set(sys.modules)
import rich.console
with sparing():
    assert sys.modules["rich"] is rich
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


THREADS = """
from telemetry.processes import child_environment, sparing
import os, subprocess, sys
with sparing():
    import redis
assert child_environment()["MALLOC_ARENA_MAX"] == os.environ.get("MALLOC_ARENA_MAX", "1")
import numpy
numpy.ones((512, 512)) @ numpy.ones((512, 512))
print(len(os.listdir("/proc/self/task")))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_numpy_has_one_thread_unless_somebody_asked_for_more() -> None:
    def n_threads(**told: str) -> int:
        plain = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
        command = [sys.executable, "-c", THREADS]
        done = subprocess.run(
            command, env=plain | told, capture_output=True, text=True, check=True, timeout=60
        )
        return int(done.stdout)

    assert n_threads() == 1
    assert n_threads(MALLOC_ARENA_MAX="4") == 1
    if (os.cpu_count() or 1) > 1:
        assert n_threads(OPENBLAS_NUM_THREADS="2") == 2
        assert n_threads(OMP_NUM_THREADS="2") == 2


@pytest.mark.parametrize(
    ("told", "level"),
    [({}, "2"), ({"PYTHONOPTIMIZE": "1"}, "1"), ({"PYTHONDONTWRITEBYTECODE": "1"}, "0")],
    ids=["most often", "somebody said so", "nothing compiled is kept"],
)
def test_what_lives_as_long_as_the_stack_keeps_no_docstrings_where_bytecode_is_kept(
    told: dict[str, str], level: str
) -> None:
    code = """
from telemetry.processes import lasting_environment
import subprocess, sys
child = [sys.executable, "-c", "import sys; print(sys.flags.optimize)"]
print(subprocess.check_output(child, env=lasting_environment(), text=True))
"""
    unset = ("PYTHONOPTIMIZE", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    environment = {k: v for k, v in os.environ.items() if k not in unset}

    done = subprocess.check_output(
        [sys.executable, "-c", code], env=environment | told, text=True, timeout=60
    )

    assert done.strip() == level


def test_to_fold_loads_no_part_of_numpy_that_is_hardly_ever_needed(address: Address) -> None:
    """`numpy.ma`, which `unique` asks for, takes 15 ms of the first round."""
    code = f"""
import sys
from telemetry import events, frames
from telemetry.events import Flag, Result
from telemetry.store import Address, connect, prepare
from telemetry.tokens import Token
from workers.folding.lease import Lease
from workers.folding.shard import Shard

prepare(client := connect(Address({address.url!r})), shards=1)
(lease := Lease(client, 0)).take()
(shard := Shard(client, 0)).load()
token = Token(1, 0, 4, bytes(16), 1790000000000, 2, 3, 4, 5, 6, 7, 8, 0.5, 0, 0).pack()
outcome = events.outcome(
    token, result=Result.OK, attempt=1, status=200, flags=Flag.FINAL, response=bytes(range(16))
)
(frame,) = frames.cut(outcome, bytes(range(16)), [0])
entry = (b"1790000000000-0", {{b"f": frames.pack(frame)}})
assert shard.fold([entry], token=lease.token) == 1
print("numpy.ma" in sys.modules)
"""

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    assert done.stdout == "False\n"
