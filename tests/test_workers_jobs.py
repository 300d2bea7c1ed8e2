"""Periodic jobs: only ours, once a period, whoever asks."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import SHARDS, until
from redis.exceptions import ConnectionError as RedisConnectionError
from rq import Queue
from rq.job import Callback
from rq.results import Result
from rq.serializers import JSONSerializer
from rq.webhook import Webhook
from structlog.testing import capture_logs
from test_workers_archive import NOW_MS, Life, feedback, outcome

from router.demo.stack import stack
from telemetry import jobs_trouble, keys, trials
from telemetry.embedded import PrivateServer
from telemetry.store import Address, parse_address, prepare
from telemetry.trials import Trial
from workers.archive.archive import identity
from workers.archive.retention import Keep
from workers.archive.thaw import UNKNOWN
from workers.jobs import clock, jobs, schedule
from workers.jobs.clock import DONE, JobClock, JobRunner, RunnerFailed
from workers.jobs.place import Place
from workers.jobs.questions import EVERY_S, Questions
from workers.jobs.worker import ALLOWED, JobWorker

TAKE = "workers.jobs.take"


@pytest.fixture
def queue(store: PrivateServer, client: Any, address: Address, state_dir: Path) -> Queue:
    """The queue of a real store: rq asks it who is connected, and runs scripts of its own."""
    prepare(client, shards=1)
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(30, 1 << 30)))
    return schedule.open_queue(client, "test")


@pytest.fixture
def worker(queue: Queue, client: Any) -> JobWorker:
    return JobWorker([queue], connection=client, serializer=JSONSerializer)


class Payload:
    """What runs when a pickle of it is read."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> Any:
        return (Path.touch, (Path(self.path),))


def test_a_function_that_is_not_listed_is_refused(
    queue: Queue, worker: JobWorker, client: Any, tmp_path: Path
) -> None:
    stranger = Queue(queue.name, connection=client, serializer=JSONSerializer)
    job = stranger.enqueue("os.mkdir", str(tmp_path / "made"))

    with capture_logs() as lines:
        worker.work(burst=True, logging_level="ERROR")

    assert job.get_status() == "failed"
    assert not (tmp_path / "made").exists()
    assert [(line["event"], line["error"]) for line in lines] == [("a job failed", "NotAllowed")]


def test_a_pickled_job_is_never_read(
    queue: Queue, worker: JobWorker, client: Any, tmp_path: Path
) -> None:
    job = Queue(queue.name, connection=client).enqueue(TAKE)
    client.hset(job.key, "data", pickle.dumps((TAKE, None, (Payload(tmp_path / "read"),), {})))

    with capture_logs():
        worker.work(burst=True, logging_level="ERROR")

    assert not (tmp_path / "read").exists()


@pytest.mark.parametrize(
    "extra",
    [
        {"on_success": Callback("os.getcwd")},
        {"on_failure": Callback("os.getcwd")},
        {"webhooks": [Webhook("http://127.0.0.1:9/", "finished")]},
        {"args": (1,)},
        {"kwargs": {"root": "/"}},
    ],
    ids=lambda extra: next(iter(extra)),
)
def test_a_listed_function_runs_plain_or_not_at_all(
    queue: Queue, worker: JobWorker, client: Any, extra: dict[str, Any]
) -> None:
    job = Queue(queue.name, connection=client, serializer=JSONSerializer).enqueue(TAKE, **extra)

    with capture_logs():
        worker.work(burst=True, logging_level="ERROR")

    assert job.get_status() == "failed"


def test_of_several_that_ask_one_gets_the_job(queue: Queue, worker: JobWorker) -> None:
    asked = [schedule.enqueue(queue, EVERY_S, now_s=1e9) for _ in range(3)]
    assert asked == [list(EVERY_S), [], []]

    worker.work(burst=True, logging_level="ERROR")

    assert schedule.enqueue(queue, EVERY_S, now_s=1e9) == []
    assert schedule.enqueue(queue, EVERY_S, now_s=1e9 + 5) == ["take", "thaw"]
    assert queue.count == 2


def test_every_job_has_a_period() -> None:
    assert {name: every_s for name, (_, every_s) in ALLOWED.items()} == {
        f"workers.jobs.{name}": every_s for name, every_s in EVERY_S.items()
    }


def test_everything_that_jobs_leave_in_the_queue_ends_by_itself(
    queue: Queue, worker: JobWorker, client: Any
) -> None:
    schedule.enqueue(queue, EVERY_S, now_s=1e9)
    worker.work(burst=True, logging_level="ERROR")

    left = [key for key in client.keys("rq:*") if client.ttl(key) < 0]

    bounded = (b"rq:queues", b"rq:finished:", b"rq:queue:", b"rq:workers", b"rq:clean")
    assert [key for key in left if not key.startswith(bounded)] == []


def test_a_job_that_goes_on_failing_is_logged_once(
    queue: Queue, worker: JobWorker, state_dir: Path
) -> None:
    (state_dir / "archive").write_text("no directory")

    with capture_logs() as lines:
        for n in range(3):
            schedule.enqueue(queue, ["take", "thaw"], now_s=1e9 + 5 * n)
            worker.work(burst=True, logging_level="ERROR")

    assert [line["job"] for line in lines].count(TAKE) == 1


def test_the_words_of_a_failed_job_stay_out_of_the_store(
    queue: Queue, worker: JobWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rq keeps the traceback of a failed job, its message included, and packs it."""

    def fail() -> None:
        raise ValueError("the patient's name is Ada")

    monkeypatch.setitem(ALLOWED, TAKE, (fail, 5.0))
    job = queue.enqueue(TAKE)
    worker.work(burst=True, logging_level="ERROR")

    (result,) = job.results()
    assert result.type is Result.Type.FAILED
    assert not result.exc_string


def test_without_an_archive_the_stream_is_trimmed_all_the_same(
    client: Any, address: Address, state_dir: Path
) -> None:
    life = Life(client, state_dir / "archive")
    for n in range(1, 200):
        life.send(outcome(n))
    life.fold()
    jobs.work_at(Place(address, life.archive.root, 1, Keep(0, 1 << 30)))

    jobs.take()
    life.prune()

    assert life.length() < 100
    assert life.files() == []


@pytest.mark.usefixtures("store")  # the job connects to it
def test_a_job_makes_the_indexes_that_are_missing(
    client: Any, address: Address, state_dir: Path
) -> None:
    """As after an upgrade: earlier versions made none."""
    life = Life(client, state_dir / "archive")
    life.send(outcome(1))
    life.fold()
    (file,) = life.take()
    file.index_path.unlink()
    jobs.work_at(Place(address, life.archive.root, 1, Keep(30, 1 << 30)))

    made, again = jobs.index(), jobs.index()

    assert (made, again) == (1, 0)
    assert file.index_path.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # a process connects to it
def test_the_process_archives_audits_and_calibrates(
    client: Any, address: Address, state_dir: Path
) -> None:
    life = Life(client, state_dir / "archive")
    client.hset(keys.META, "shards", str(SHARDS))
    said = [feedback(n, 0.5) for n in range(1, 40)]
    life.send(outcome(1), *said, entry_id=f"{NOW_MS - 7_200_000}-1")  # due by its age
    life.fold()
    with stack(state_dir) as processes:
        arguments = ("--state-dir", str(state_dir), "--shards", str(SHARDS), "--jobs")
        process = processes.start("jobs", "workers", *arguments)

        deadline = time.monotonic() + 40
        while client.exists(keys.CALIBRATION, keys.AVAILABILITY) < 2:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)

    assert process.returncode == 0
    assert len(life.files()) == 1
    found = json.loads(client.get(keys.AUDIT))
    assert (found["equal"], found["records"]) == (True, 40)
    assert json.loads(client.get(keys.CALIBRATION))["endpoints"][0]["labels"] > 0
    assert json.loads(client.get(keys.AVAILABILITY))["endpoints"][0]["share"] == 1
    for line in (state_dir / "jobs.log").read_text().splitlines():
        json.loads(line)


def clock_of(place: Place) -> JobClock:
    """Return what asks for jobs, and has a process run them."""
    command = [sys.executable, "-m", "workers", "--state-dir", str(place.root.parent)]
    command += ["--shards", str(place.n_shards), "--jobs"]
    return JobClock(place, command)


def test_without_a_server_for_jobs_a_cluster_runs_none_and_says_what_to_set(
    state_dir: Path,
) -> None:
    stop = threading.Event()
    stop.set()
    cluster = parse_address("redis+cluster://127.0.0.1:7000,127.0.0.1:7001")
    place = Place(cluster, state_dir / "archive", 1, Keep(30, 1 << 30), stop=stop)

    with capture_logs() as said:
        clock_of(place).run()

    assert [line["event"] for line in said] == ["no jobs are run"]
    assert "RQ_REDIS_URL" in said[0]["reason"]


def run_until(asking: JobClock, done: Callable[[], bool]) -> None:
    """Run what asks for jobs until something holds, or for 20 s."""
    running = threading.Thread(target=asking.run)
    running.start()
    try:
        until(done, 20)
    finally:
        asking.place.stop.set()
        running.join()


def test_a_queue_of_its_own_that_is_away_is_told_by_its_own_name(
    store: PrivateServer,
    client: Any,
    address: Address,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(client, shards=1)
    monkeypatch.setenv("RQ_REDIS_URL", "redis://127.0.0.1:9/0")
    place = Place(address, state_dir / "archive", 1, Keep(30, 1 << 30))

    with capture_logs() as said:
        run_until(clock_of(place), lambda: bool(said))

    assert said[0]["event"] == "the jobs' own store is away: no jobs"
    assert "RQ_REDIS_URL" in said[0]["fix"]
    told = jobs_trouble.parse(client.get(keys.JOBS_TROUBLE))
    assert told is not None
    assert told.text.startswith(
        "no jobs are run: their own store is away: nothing listens there (Error 111 connecting"
    )
    assert told.fix == "start it, or correct host and port in RQ_REDIS_URL"
    assert 0 <= time.time() - told.since_ms / 1000 < 30
    assert 0 < client.pttl(keys.JOBS_TROUBLE) <= 60_000, "a worker that is gone says nothing"


def test_a_queue_that_cannot_be_is_told_in_the_store(
    store: PrivateServer,
    client: Any,
    address: Address,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(client, shards=1)
    monkeypatch.setenv("RQ_REDIS_URL", "redis+cluster://127.0.0.1:9")
    place = Place(address, state_dir / "archive", 1, Keep(30, 1 << 30))

    run_until(clock_of(place), lambda: bool(client.exists(keys.JOBS_TROUBLE)))

    told = jobs_trouble.parse(client.get(keys.JOBS_TROUBLE))
    assert told is not None
    assert told.text.startswith("no jobs are run: rq does not run on a cluster")


def test_what_was_said_of_a_queue_is_taken_back_once_it_answers(
    store: PrivateServer, client: Any, address: Address, state_dir: Path
) -> None:
    prepare(client, shards=1)
    place = Place(address, state_dir / "archive", 1, Keep(30, 1 << 30))
    asking = clock_of(place)
    asking._word.say(client, "no jobs are run: their own store is away", "start it")
    assert client.exists(keys.JOBS_TROUBLE)

    run_until(asking, lambda: not client.exists(keys.JOBS_TROUBLE))


def test_where_the_process_for_jobs_fails_burials_go_on_and_it_is_said(
    store: PrivateServer,
    client: Any,
    address: Address,
    state_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepare(client, shards=1)
    client.hset(keys.ENDED, "somebody", "1")
    buried: list[int] = []
    monkeypatch.setattr(clock, "bury_dead", lambda *_, now_ms: buried.append(now_ms))
    monkeypatch.setattr(clock, "OFTEN_S", 0.2)
    monkeypatch.setitem(EVERY_S, "bury", 0.4)
    monkeypatch.setattr(Questions, "ask", lambda *_, **__: True)
    place = Place(address, state_dir / "archive", 1, Keep(30, 1 << 30))
    failing = JobClock(place, [sys.executable, "-c", "raise SystemExit(3)"])

    with capture_logs() as said:
        run_until(failing, lambda: len(buried) >= 4)

    assert [line["event"] for line in said] == ["the process for jobs failed"]


def test_a_process_for_jobs_that_ended_while_it_waited_is_noticed_and_replaced() -> None:
    script = "import socket, sys; line = socket.socket(fileno=int(sys.argv[2])); "
    script += f"line.recv(99); line.sendall({DONE!r}); line.recv(99)"
    runner = JobRunner([sys.executable, "-c", script], lambda: False)
    runner.run(["take"])
    assert runner._process is not None
    runner._process.kill()
    runner._process.wait()

    with capture_logs() as said:
        runner.run(["take"])
        runner.end()

    assert [(line["event"], line["code"]) for line in said] == [
        ("the process for jobs ended while it waited", -9)
    ]


@pytest.mark.parametrize("is_told", [False, True])
def test_a_process_for_jobs_that_ends_as_it_is_told_is_said_to_have_ended(
    is_told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is told, its end not noticed yet; or with what it was told unread."""
    script = "import socket, sys; line = socket.socket(fileno=int(sys.argv[2])); "
    script += f"line.recv(99); line.sendall({DONE!r}); line.recv(1)"
    runner = JobRunner([sys.executable, "-c", script], lambda: False)
    runner.run(["take"])
    assert runner._process is not None
    if not is_told:
        runner._process.kill()
        runner._process.wait()
        monkeypatch.setattr(JobRunner, "notice_end", lambda _: None)

    with pytest.raises(RunnerFailed, match=r"^it ended$"):
        runner.run(["take"])

    assert not runner.is_there


@pytest.mark.slow
def test_jobs_wait_for_a_store_that_is_away_at_their_start(state_dir: Path) -> None:
    store = PrivateServer(state_dir / "store")
    address = Address(f"unix://{store.socket_path}")
    stop = threading.Event()
    place = Place(address, state_dir / "archive", SHARDS, Keep(30, 1 << 30), stop=stop)

    with capture_logs() as said:
        running = threading.Thread(target=clock_of(place).run)
        running.start()
        until(lambda: any("store is away" in line["event"] for line in said))
        with store:
            until(lambda: any("store is back" in line["event"] for line in said), 30)
            stop.set()
            running.join(20)

    assert not running.is_alive()
    events = [line["event"] for line in said if "store" in line["event"]]
    assert events == ["store is away: no jobs", "store is back"]


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # rq asks a real one
def test_a_store_that_goes_while_a_worker_is_known_to_it_ends_the_jobs_in_order(
    state_dir: Path, address: Address, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one has another name, which the store does not hold for alive."""
    monkeypatch.setattr(os, "nice", lambda _: 0)

    def go(_: JobWorker) -> None:
        raise RedisConnectionError

    # rq's, patched: the store must go at this very moment, when it holds the worker for alive.
    leave = JobWorker.register_death
    monkeypatch.setattr(JobWorker, "register_death", go)
    root = state_dir / "archive"
    prepare(client, shards=SHARDS)

    with capture_logs():
        assert told(Place(address, root, SHARDS, Keep(30, 1 << 30)), b"rank\n") == b"!"
        monkeypatch.setattr(JobWorker, "register_death", leave)
        assert told(Place(address, root, SHARDS, Keep(30, 1 << 30)), b"prune\n") == DONE

    assert schedule.open_queue(client, identity(root)).count == 0


def told(place: Place, words: bytes) -> bytes:
    """Return what the process for jobs answers."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(words)
        ours.shutdown(socket.SHUT_WR)
        schedule.run_told(place, theirs)
        return ours.recv(1)


@pytest.fixture
def questions(queue: Queue, client: Any, address: Address, state_dir: Path) -> Questions:
    place = Place(address, state_dir / "archive", 1, Keep(30, 1 << 30))
    return Questions(place.archive(), place.trail(), keeps=True, every_s=3600.0)


def test_where_nothing_happened_no_job_has_anything_to_do(
    questions: Questions, client: Any, state_dir: Path
) -> None:
    life = Life(client, state_dir / "archive")
    life.send(outcome(1))
    life.fold()
    often = ["take", "thaw", "episodes", "tally", "compare"]
    assert [n for n in often if questions.ask(n, now_ms=NOW_MS)] == ["episodes", "tally", "compare"]
    for job in (jobs.episodes, jobs.tally, jobs.compare):
        job()

    assert [n for n in often if questions.ask(n, now_ms=int(time.time() * 1000))] == []

    late_ms = int(time.time() * 1000) + 3_700_000
    assert questions.ask("take", now_ms=late_ms), "it waited for more than an hour"
    life.take()
    assert not questions.ask("take", now_ms=late_ms)
    client.hset(keys.cold(0), b"e" * 32, b"what was said")
    assert questions.ask("thaw", now_ms=NOW_MS)
    assert not questions.ask("thaw", now_ms=NOW_MS), "it was looked at, and nothing changed"
    life.send(outcome(2))
    life.fold()
    assert questions.ask("thaw", now_ms=NOW_MS)


def test_what_did_not_change_is_looked_at_again_after_a_while(
    questions: Questions, client: Any
) -> None:
    now = [0.0]
    questions.clock = lambda: now[0]
    client.hset(keys.cold(0), b"e" * 32, b"what was said")
    assert questions.ask("thaw", now_ms=NOW_MS)
    now[0] = 599.0
    assert not questions.ask("thaw", now_ms=NOW_MS)
    now[0] = 601.0
    assert questions.ask("thaw", now_ms=NOW_MS)


def test_a_trial_that_began_and_one_whose_time_is_up_are_looked_at_at_once(
    questions: Questions, client: Any
) -> None:
    now_ms = int(time.time() * 1000)
    jobs.compare()
    assert not questions.ask("compare", now_ms=now_ms)
    began = {"began_ms": now_ms, "ends_ms": now_ms + 60_000}
    trials.start(client, Trial(id="abcdefghijkl", app="a", strategy="s", incumbent="x", **began))

    assert questions.ask("compare", now_ms=now_ms)
    jobs.compare()
    assert not questions.ask("compare", now_ms=now_ms)
    assert questions.ask("compare", now_ms=now_ms + 61_000)


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # a process connects to it
def test_a_worker_runs_jobs_in_a_process_that_is_gone_when_nothing_comes(
    client: Any, state_dir: Path
) -> None:
    client.hset(keys.META, "shards", str(SHARDS))
    with stack(state_dir) as processes:
        arguments = ("--state-dir", str(state_dir), "--shards", str(SHARDS), "--with-jobs")
        worker = processes.start("worker", "workers", *arguments)
        until(lambda: children_of(worker.pid) != [], 30)
        until(lambda: children_of(worker.pid) == [], 60)
        assert client.get(keys.ARCHIVER), "the archive is held meanwhile"
        assert worker.poll() is None
    assert worker.returncode == 0


@pytest.mark.slow
@pytest.mark.usefixtures("store")  # a process connects to it
def test_a_worker_that_is_killed_takes_the_process_for_jobs_along(
    client: Any, state_dir: Path
) -> None:
    client.hset(keys.META, "shards", str(SHARDS))
    with stack(state_dir) as processes:
        arguments = ("--state-dir", str(state_dir), "--shards", str(SHARDS), "--with-jobs")
        worker = processes.start("worker", "workers", *arguments)
        until(lambda: children_of(worker.pid) != [], 30)
        (child,) = children_of(worker.pid)
        worker.kill()
        worker.wait()
        until(lambda: not Path(f"/proc/{child}/fd").exists() or is_zombie(child), 20)


def children_of(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(n) for task in tasks for n in (task / "children").read_text().split()]


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"


def test_without_an_archive_what_waits_for_one_is_given_up(
    queue: Queue, client: Any, address: Address, state_dir: Path
) -> None:
    client.hset(keys.cold(0), b"e" * 32, b"what was said")
    jobs.work_at(Place(address, state_dir / "archive", 1, Keep(0, 1 << 30)))
    client.set(keys.ARCHIVER, "another")
    assert jobs.thaw() == 0, "it takes the records, and knows"
    client.set(keys.ARCHIVER, identity(state_dir / "archive"))  # as before there was none
    assert jobs.check() == jobs.calibrate() == jobs.measure() == {}, "nothing is claimed"

    assert jobs.thaw() == 1

    ((_, letter),) = client.xrange(keys.dead(0))
    assert letter == {b"reason": UNKNOWN.encode(), b"raw": b"what was said"}
    assert client.hget(keys.meta(0), "n_unknown_old") == b"1"
    assert client.hlen(keys.cold(0)) == 0


def test_old_decisions_are_put_back_by_a_job(queue: Queue, client: Any, state_dir: Path) -> None:
    life = Life(client, state_dir / "archive")
    life.shard.young_hours = 24
    at_ms = NOW_MS - 5 * 86_400_000
    life.send(outcome(1, at_ms=at_ms), entry_id=f"{at_ms}-1")
    life.fold()
    life.take()
    life.send(feedback(1, 1.0, at_ms=at_ms))
    life.fold()
    life.take()

    assert jobs.thaw() == 1

    life.fold()
    assert client.hlen(keys.cold(0)) == 0
    assert client.hget(keys.meta(0), "n_feedback") == b"1"
    assert life.audit().equal


@pytest.mark.parametrize("job", [jobs.check, jobs.calibrate, jobs.measure])
def test_a_long_job_does_not_hold_up_what_is_said_of_old_decisions(
    job: Callable[[], object], queue: Queue, client: Any, state_dir: Path
) -> None:
    life = Life(client, state_dir / "archive")
    life.shard.young_hours = 24
    at_ms = NOW_MS - 5 * 86_400_000
    life.send(outcome(1, at_ms=at_ms), entry_id=f"{at_ms}-1")
    life.fold()
    life.take()
    life.send(feedback(1, 1.0, at_ms=at_ms))
    life.fold()
    life.take()

    job()

    life.fold()
    assert client.hlen(keys.cold(0)) == 0
    assert client.hget(keys.meta(0), "n_feedback") == b"1"
