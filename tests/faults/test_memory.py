"""The memory of an evaluation does not grow with the number of images: 10 000 of them."""

import subprocess
import sys

import pytest

CODE = """
import sys
import numpy as np, torch
from pathlib import Path
from mmpanoptic.datasets.shapes.catalog import SHAPES_TABLE as TABLE
from mmpanoptic.evaluation import PanopticQualityMetric
from mmpanoptic.structures import make_panoptic_data
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

folder, cache_mb = Path(sys.argv[1]), float(sys.argv[2])
rng, kinds = np.random.default_rng(0), []
for number in range(20):  # of different sizes and raggedness, as photographs are
    height, width = int(rng.integers(240, 420)), int(rng.integers(240, 420))
    coarse = rng.integers(1, 18, (height // 40 + 1, width // 40 + 1))
    ids = np.kron(coarse, np.ones((40, 40), int))[:height, :width].astype(np.int32)
    ids[rng.random(ids.shape) < 0.002 * number / 20] = 0
    path = folder / f"{number}.png"
    path.write_bytes(encode_panoptic_png(ids))
    info = [
        {"id": int(i), "category_id": int(TABLE[int(i) % len(TABLE)].dataset_id), "iscrowd": 0,
         "area": int((ids == i).sum())}
        for i in np.unique(ids) if i
    ]
    index = np.zeros(64, np.int64)
    index[[segment["id"] for segment in info]] = np.arange(1, len(info) + 1)
    segments = [{"label": TABLE.by_dataset_id(s["category_id"]).index, "score": 0.9} for s in info]
    kinds.append((path, info, index[np.roll(ids, 3, 1)], segments))
metric = PanopticQualityMetric(classwise=False, cache_mb=cache_mb)
metric.dataset_meta = TABLE.to_metainfo() | {"name": "x"}

def resident():
    return int(open("/proc/self/statm").read().split()[1]) // 256  # MiB

for number in range(1, 10_001):
    path, info, index, segments = kinds[number % 20]
    link = folder / f"link{number}.png"  # every image has a file of its own
    link.symlink_to(path)
    panoptic = make_panoptic_data(torch.from_numpy(index.copy()), segments)
    sample = {
        "sample_idx": number, "img_id": number, "img_path": str(link), "seg_map_path": str(link),
        "segments_info": info, "pred_panoptic_seg": panoptic,
    }
    metric.process(None, [sample])
    if number in (1000, 2000, 4000, 6000, 8000, 10_000):
        print(number, resident(), flush=True)
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("cache_mb", "allowed"), [(0, 30), (16, 30)], ids=["bare", "cached"])
def test_memory_of_10_000_images_stays_on_a_plateau(tmp_path, cache_mb, allowed):
    command = [sys.executable, "-c", CODE, str(tmp_path), str(cache_mb)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    table = {int(n): int(mb) for n, mb in map(str.split, done.stdout.splitlines())}
    print(table)
    # Records of 1 KB an image are 9 MiB; a map of an image that stayed would be GB.
    assert table[10_000] - table[1000] < allowed, table
