"""Measure what shared trials cost: python -m tests.tuning.overhead [NUMBER [KILLS]].

Four workers evaluate dummy trials of 50 ms on each storage; then again while workers are killed and
replaced, and, on PostgreSQL, while the server is away for 20 s. Prints seconds and checks that no
trial is lost or twice.
"""

import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.tuning import postgres, worker

FORK = multiprocessing.get_context("fork")
WORKERS, SECONDS = 4, 0.05


def start(url, number, log):
    process = FORK.Process(target=worker.main, args=(url, number, SECONDS, log))
    process.start()
    return process


def stamps(log, word):
    return [float(line.split()[3]) for line in Path(log).read_text().splitlines() if word in line]


def check(url, number, log):
    complete = [t for t in worker.make_study(url, number)._read() if t.state.name == "COMPLETE"]
    assert len({tuple(t.params.items()) for t in complete}) == len(complete) == number
    return len(stamps(log, "start"))


def cpu():
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def run(name, url, number, log):
    before = cpu()
    workers = [start(url, number, log) for _ in range(WORKERS)]
    for process in workers:
        process.join()
    used = cpu() - before
    begun = check(url, number, log)
    # From the first trial on, when the tables are there.
    wall = max(stamps(log, "end")) - min(stamps(log, "start"))
    extra = 1e3 * (wall - number * SECONDS / WORKERS) / number
    print(
        f"{name}: {number} trials, {begun} begun, {wall:.1f} s; overhead {extra:.1f} ms a trial, "
        f"CPU {1e3 * used / number:.1f} ms a trial with the start of the workers",
        flush=True,
    )


def run_with_kills(name, url, number, log, kills):
    workers = [start(url, number, log) for _ in range(WORKERS)]
    for count in range(kills):
        while not Path(log).exists() or len(stamps(log, "start")) < (count + 1) * number // (
            kills + 2
        ):
            time.sleep(0.02)
        victim = random.choice(workers)
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        workers[workers.index(victim)] = start(url, number, log)
    for process in workers:
        process.join()
        assert process.exitcode == 0
    begun = check(url, number, log)
    assert number <= begun <= number + kills
    print(
        f"{name}: {kills} kills, {number} trials, {begun} begun, none lost, none twice", flush=True
    )


def run_with_absence(server, number, log, seconds=20):
    workers = [start(server.url, number, log) for _ in range(WORKERS)]
    while not Path(log).exists() or len(stamps(log, "start")) < number // 4:
        time.sleep(0.02)
    server.stop()
    time.sleep(seconds)
    server.start()
    for process in workers:
        process.join()
        assert process.exitcode == 0
    print(f"PostgreSQL away for {seconds} s: {check(server.url, number, log)} begun, none lost")


def main(number=200, kills=10):
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder, postgres.server() as server:
        urls = {name: f"{name}:///{folder}/{name}" for name in ("sqlite", "journal")}
        # Every run has another number of trials, and so a study of its own.
        for name, url in {**urls, "postgresql": server.url}.items():
            run(name, url, number, f"{folder}/{name}.log")
            run_with_kills(name, url, number + 1, f"{folder}/{name}-kills.log", kills)
        run_with_absence(server, number + 2, f"{folder}/away.log")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
