"""Two processes give what one gives: for every metric of this room but panoptic quality."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample

from mmpanoptic.engine.distributed import close_process_group
from mmpanoptic.evaluation import (
    CityscapesInstanceMetric,
    CityscapesPixelMetric,
    CocoInstanceMetric,
    IndexedMetric,
    SemanticIoUMetric,
)
from mmpanoptic.structures import id2rgb
from mmpanoptic.utils import atomic_write
from tests.evaluation.cityscapes_data import (
    LABEL_OF_ID,
    METAINFO,
    TABLE,
    make_sample,
    random_scene,
    write_truth,
)

ROOT = Path(__file__).parents[2]
NUM_IMAGES = 5
INDICES = {"padded": ([0, 2, 4], [1, 3, 0]), "uneven": ([4, 0, 1, 2], [3])}


def make_dataset(folder: Path) -> list[DetDataSample]:
    """Write ground truth of all kinds and make predictions for it; always the same."""
    rng = np.random.default_rng(0)
    samples, annotations = [], []
    for index in range(NUM_IMAGES):
        labels, instances = random_scene(rng)
        image = write_truth(folder, f"a_000000_{index:06d}", labels, instances)
        values = [int(v) for v in np.unique(instances) if v // 1000 in LABEL_OF_ID]
        masks = np.stack([instances == value for value in values])
        prediction = np.where(rng.random(labels.shape) < 0.8, labels, 7)
        shifted = np.roll(masks, 1, 2)
        ids, scores = [value // 1000 for value in values], rng.random(len(values)).tolist()
        sample = make_sample(index, image, prediction, shifted, ids, scores)
        _add_panoptic(sample, folder, instances)
        samples.append(sample)
        annotations += [
            _annotation(len(annotations) + k + 1, index, value // 1000, mask)
            for k, (value, mask) in enumerate(zip(values, masks, strict=True))
        ]
    _write_instances(folder / "instances.json", samples, annotations)
    return samples


def _add_panoptic(sample: DetDataSample, folder: Path, instances: np.ndarray) -> None:
    import cv2

    path = folder / f"{sample.sample_idx}.png"
    done, data = cv2.imencode(".png", id2rgb(instances)[..., ::-1])
    assert done
    with atomic_write(path) as temporary:  # both processes write the same file
        temporary.write_bytes(data.tobytes())
    found = [int(value) for value in np.unique(instances)]
    labels = {value: LABEL_OF_ID.get(value // 1000 or value) for value in found}
    info = [{"id": value, "label": label} for value, label in labels.items() if label is not None]
    sample.set_metainfo({"seg_map_path": str(path), "segments_info": info})


def _annotation(number: int, image_id: int, category_id: int, mask: np.ndarray) -> dict:
    from mmpanoptic.evaluation.coco_metric import encode_masks

    y, x = np.nonzero(mask)
    box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1]
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": int(mask.sum()),
        "iscrowd": 0,
        "segmentation": encode_masks(mask[None])[0],
    }


def _write_instances(path: Path, samples: list[DetDataSample], annotations: list[dict]) -> None:
    height, width = samples[0].pred_sem_seg.shape
    images = [
        {"id": s.sample_idx, "file_name": Path(s.img_path).name, "height": height, "width": width}
        for s in samples
    ]
    ids = {label: number for number, label in LABEL_OF_ID.items()}
    categories = [{"id": ids[label.index], "name": label.name} for label in TABLE if label.isthing]
    content = {"images": images, "annotations": annotations, "categories": categories}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content))


def make_metrics(folder: Path) -> list[IndexedMetric]:
    """Build every metric."""
    metrics = [
        CityscapesPixelMetric(),
        CityscapesInstanceMetric(),
        SemanticIoUMetric(["mmseg", "detectron2"]),
        CocoInstanceMetric(folder / "instances.json"),
    ]
    for metric in metrics:
        metric.dataset_meta = METAINFO
    return metrics


def main() -> None:
    """Evaluate one rank's images; started by the tests with torchrun's environment."""
    folder = Path(sys.argv[1])
    torch.distributed.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    samples = make_dataset(folder / f"rank{rank}")
    found: dict[str, dict] = {case: {} for case in (*INDICES, "failing")}
    for metric in make_metrics(folder / f"rank{rank}"):
        for case, indices in INDICES.items():
            for index in indices[rank]:
                metric.process(None, [samples[index]])
                time.sleep(0.02 * rank)
            found[case] |= metric.evaluate(NUM_IMAGES)
        metric.summarize = lambda records: 1 / 0
        try:
            metric.evaluate(NUM_IMAGES)
        except (RuntimeError, ZeroDivisionError) as error:
            found["failing"][type(metric).__name__] = f"{type(error).__name__}: {error}"
    (folder / f"metrics{rank}.json").write_text(json.dumps(found))
    close_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """Run ``main`` in two processes; what the ranks found, by case."""
    folder = tmp_path_factory.mktemp("ranks")
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
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.evaluation.test_metrics_distributed", str(folder)],
            cwd=folder,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert not (folder / ".dist_test").exists()  # nothing of its own in the working directory
    return [json.loads((folder / f"metrics{rank}.json").read_text()) for rank in range(2)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, float]:
    """What one process finds."""
    folder = tmp_path_factory.mktemp("one")
    samples = make_dataset(folder)
    found: dict[str, float] = {}
    for metric in make_metrics(folder):
        metric.process(None, samples)
        found |= metric.evaluate(NUM_IMAGES)
    return found


@pytest.mark.parametrize("case", sorted(INDICES))
def test_two_processes_give_the_bits_of_one(ranks, expected, case):
    assert len(expected) == 4 + 2 + 5 + 24
    assert expected["cityscapes_instance/AP"] > 0
    for found in ranks:
        assert found[case] == pytest.approx(expected, rel=0, abs=0, nan_ok=True)


def test_a_failure_on_the_first_process_ends_all(ranks):
    first, second = (found["failing"] for found in ranks)
    assert len(first) == len(second) == 4
    assert set(first.values()) == {"ZeroDivisionError: division by zero"}
    for name, message in second.items():
        assert message == (
            f"RuntimeError: {name} failed on the first rank: ZeroDivisionError: division by zero"
        )


if __name__ == "__main__":
    main()
