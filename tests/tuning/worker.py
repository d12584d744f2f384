"""A worker on dummy trials."""

import os
import time
from pathlib import Path

from mmpanoptic.tuning import Outcome, SharedStudy, open_storage, require_optuna


def candidates(number):
    return [{"a": i % 8, "b": i // 8} for i in range(number)]


def make_study(url, number, heartbeat=2, **options):
    distributions = require_optuna().distributions
    space = {
        "a": distributions.IntDistribution(0, 7),
        "b": distributions.IntDistribution(0, max(1, number // 8)),
    }
    options = {"poll_seconds": 0.1, **options}
    return SharedStudy(
        open_storage(url, heartbeat), "dummy", space, ["maximize"], {"number": number}, **options
    )


def value(params):
    return params["a"] * 100 + params["b"] / 3


def evaluator(seconds, log):
    def evaluate(trial, params):
        with open(log, "a") as file:
            file.write(f"start {params['a']} {params['b']} {time.time()} {os.getpid()}\n")
        time.sleep(seconds)
        return Outcome([value(params)], {"metrics": {"PQ": value(params)}})

    return evaluate


def main(url, number, seconds, log, kind="given", heartbeat=2, crew=1):
    number = int(number)
    study = make_study(url, number, int(heartbeat))
    with open(log, "a") as file:
        file.write(f"ready - - {time.time()}\n")
    while Path(log).read_text().count("ready") < int(crew):  # so that all begin together
        time.sleep(0.01)
    if kind == "given":
        study.evaluate(candidates(number), evaluator(float(seconds), log))
    else:
        sampler = getattr(require_optuna().samplers, kind)
        study.sample(number, lambda n: sampler(seed=n), evaluator(float(seconds), log))
    with open(log, "a") as file:
        file.write(f"end - - {time.time()}\n")
