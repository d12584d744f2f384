from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmpanoptic.engine.distributed import close_process_group
from mmpanoptic.evaluation import PanopticQualityMetric
from tests.evaluation.panoptic_data import TABLE, write_file_set

ROOT = Path(__file__).parents[2]
SIZES = [(30, 41), (24, 24), (57, 33), (40, 64), (33, 70)]
INDICES = {"padded": ([0, 2, 4], [1, 3, 0]), "uneven": ([0, 1, 2, 3], [4])}


def main() -> None:
    """Evaluate one rank's images; started by the test with torchrun's environment."""
    folder, case = Path(sys.argv[1]), sys.argv[2]
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    files = write_file_set(folder / f"set{rank}", SIZES)
    metric = PanopticQualityMetric(outfile_prefix=str(folder / "out"))
    metric.dataset_meta = TABLE.to_metainfo()
    for index in INDICES[case][rank]:  # batches of one: the last one of a rank may be missing
        metric.process(None, [files.sample(index)])
        time.sleep(0.05 * rank)
    metrics = metric.evaluate(len(SIZES))
    (folder / f"metrics{rank}.json").write_text(json.dumps(metrics))
    close_process_group()


@pytest.mark.parametrize("case", sorted(INDICES))
def test_two_processes_give_the_bits_of_one(tmp_path, case):
    files = write_file_set(tmp_path / "set", SIZES)
    metric = PanopticQualityMetric()
    metric.dataset_meta = TABLE.to_metainfo()
    metric.process(None, [files.sample(i) for i in range(len(SIZES))])
    expected = metric.evaluate(len(SIZES))

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    environment = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "tests.evaluation.test_panoptic_metric_distributed"]
    processes = [
        subprocess.Popen(
            [*command, str(tmp_path), case],
            cwd=tmp_path,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert not (tmp_path / ".dist_test").exists()  # nothing of its own in the working directory
    for rank in range(2):
        assert json.loads((tmp_path / f"metrics{rank}.json").read_text()) == expected
    written = json.loads((tmp_path / "out.panoptic.json").read_text())
    assert [entry["image_id"] for entry in written["annotations"]] == [100, 101, 102, 103, 104]


if __name__ == "__main__":
    main()
