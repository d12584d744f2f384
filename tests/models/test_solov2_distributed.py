"""Two processes train SOLOv2 although one of them, or both, have no instance."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


COUNTS = ((4, 0), (0, 0), (0, 3))
"""Instances of both processes in each step."""


def train(folder: Path) -> None:
    """Do some steps in one of two processes; write down what the gradients are."""
    import torch
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    from tests.models.test_solov2_head import (
        no_instances,
        pyramid,
        random_instances,
        sample,
        small_head,
    )

    class Losses(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = small_head()

        def forward(self, feats, samples):
            return sum(self.head.loss_by_feat(self.head(feats), samples).values())

    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = DistributedDataParallel(Losses())
    for counts in COUNTS:  # a step fails if a parameter had no gradient in the one before
        count = counts[rank]
        found = random_instances(rank, count) if count else no_instances()
        model(pyramid(1, rank), [sample(found)]).backward()
    total = sum(float(value.grad.double().abs().sum()) for value in model.parameters())
    (folder / f"rank_{rank}").write_text(f"{total:.9e}")


def test_every_process_has_gradients_of_every_parameter(tmp_path):
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [*launch, __file__, str(tmp_path)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = ((tmp_path / f"rank_{rank}").read_text() for rank in range(2))
    assert first == second
    assert float(first) > 0


if __name__ == "__main__":
    from mmpanoptic.engine.distributed import close_process_group

    train(Path(sys.argv[1]))
    close_process_group()
