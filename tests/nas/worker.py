"""One process of a search: python -m tests.nas.worker WORK_DIR WEIGHTS FOLDER OPTIONS."""

import json
import os
import signal
import sys
import time

from mmpanoptic.nas.evaluation import CandidateEvaluator
from tests.engine.toy import train
from tests.nas.toy import search_config


def main():
    work_dir, weights, folder, options = sys.argv[1:5]
    options = json.loads(options)
    kill_after, delay = options.pop("kill_after", None), options.pop("delay", 0.0)
    plain, count = CandidateEvaluator.__call__, [0]

    def slow(self, path, *judge):
        if count[0] == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1
        time.sleep(delay)
        return plain(self, path, *judge)

    CandidateEvaluator.__call__ = slow
    train(search_config(work_dir, weights, folder=folder, storage=None, **options))


if __name__ == "__main__":
    main()
