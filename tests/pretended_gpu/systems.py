"""Train and test every system on the pretended GPU: ``python -m tests.pretended_gpu.systems``.

A process of its own, since the guard has to be loaded before torch. Writes what each step of each
system did (kernels, waits with their lines, bytes copied) or how it failed.
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import logging
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tests.pretended_gpu import guard

ROOT = Path(__file__).parents[2]
TINY = {
    "panoptic-deeplab": "panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "panoptic-deeplab, all centers": "panoptic_deeplab/panoptic-deeplab_r18-tiny_1xb8-500_shapes",
    "panoptic-deeplab, hrnet": "panoptic_deeplab/panoptic-deeplab_h8-tiny_1xb8-900_shapes",
    "panoptic-deeplab, xception": "panoptic_deeplab/panoptic-deeplab_x65-tiny_1xb8-700_shapes",
    "deeplabv3plus": "deeplabv3plus/deeplabv3plus_r18-tiny_1xb8-1k_shapes",
    "panoptic-fpn": "rap/panoptic-fpn_r18-tiny_1xb8-1k_shapes",
    "panoptic-fpn-modern": "rap/panoptic-fpn-modern_r18-tiny_1xb8-1k_shapes",
    "rap, relation": "rap/rap_r18-tiny_relation-finetune_1xb8-2k_shapes",
    "rap, ocfusion": "rap/rap_r18-tiny_ocfusion-finetune_1xb8-2k_shapes",
    "cops, first stage": "cops/cops_r18-tiny_pretrain_1xb8-600_shapes",
    "cops, second stage": "cops/cops_r18-tiny_e2e_1xb8-200_shapes",
    "efficientps-solov2": "efficientps/efficientps-solov2_b0-tiny_1xb8-600_shapes",
    "efficientps-maskrcnn": "efficientps/efficientps-maskrcnn_b0-tiny_1xb8-600_shapes",
    "solov2": "solov2/solov2_r18-tiny_1xb8-1k_shapes",
    "auto-panoptic, supernet": "auto_panoptic/auto-panoptic_tiny-supernet_1xb4-300_shapes",
    "auto-panoptic": "auto_panoptic/auto-panoptic_tiny_1xb8-500_shapes",
    "eomt": "eomt/eomt_tiny_1xb8-1k_shapes",
    "mask2former": "mask2former/mask2former_r18-tiny_1xb8-800_shapes",
}
OPTIONS = {"panoptic-deeplab, all centers": {"model.fusion_head.top_k": None}}
AUGMENTED = (
    "panoptic-deeplab",
    "panoptic-deeplab, all centers",
    "efficientps-maskrcnn",
    "efficientps-solov2",
    "deeplabv3plus",
    "solov2",
)
"""Systems that average over augmentations of an image in tests."""
FROZEN = ("rap, relation", "rap, ocfusion", "cops, second stage")
"""Systems whose backbone is not trained, so that it keeps no activations."""
NOT_SCALED = ("mask2former",)
"""Systems whose backward pass meets a kernel that takes no float16 beside float32 on a CPU."""
SERIAL = {"num_workers": 0, "persistent_workers": False, "batch_size": 2}
"""Options of data loaders that read in the process at hand."""


def read_config(name: str, data: Path) -> Any:
    """Read a tiny config whose data lie in a folder."""
    from mmengine.config import Config

    from mmpanoptic.engine.config import resolve_config

    cfg = Config.fromfile(ROOT / "configs" / f"{TINY[name]}.py")
    cfg.merge_from_dict({"data_root": str(data), **OPTIONS.get(name, {})})
    return resolve_config(cfg)


def build(model: Any) -> Any:
    """Build a model from random weights."""
    import torch
    from mmengine.model import revert_sync_batchnorm

    from mmpanoptic.registry import MODELS

    torch.manual_seed(0)
    built = MODELS.build(copy.deepcopy(model))
    for part in built.modules():
        if "Pretrained" in str(getattr(part, "init_cfg", None)):
            part.init_cfg = None
    built.init_weights()
    return revert_sync_batchnorm(built)


def pick_path(model: Any, pick: Callable[[range], int]) -> None:
    """Pick a choice of every block of a supernet."""
    from mmpanoptic.models.layers import iter_choices, set_path

    blocks = [block for _, block in iter_choices(model)]
    if blocks:
        set_path(model, {block.decision: pick(range(len(block))) for block in blocks})


def read_batch(loader: Any, count: int = 2) -> dict[str, Any]:
    """Collate the first samples of a data loader's dataset."""
    from mmengine.dataset import pseudo_collate

    from mmpanoptic.registry import DATASETS

    dataset = DATASETS.build(copy.deepcopy(loader.dataset))
    return pseudo_collate([dataset[index] for index in range(count)])


def make_shapes(root: Path) -> Path:
    """Write a few shapes with relations."""
    from mmpanoptic.datasets.shapes import generate_shapes
    from tests.tools.load_tool import load_tool

    generate_shapes(root, {"train": 4, "val": 3})
    tool = load_tool("dataset_converters/coco_relations.py")
    for split in ("train", "val"):
        files = [root / f"annotations/{kind}_{split}.json" for kind in ("instances", "panoptic")]
        options = ["--matching", "segment_id", "--front", "depth", "--overlap-thr", "0.05"]
        if tool.main([*map(str, files), *options]):
            raise RuntimeError("the shapes have no relations")
    return root


class System:
    """One system on the device."""

    def __init__(self, name: str, data: Path) -> None:
        self.name = name
        self.cfg = read_config(name, data)
        self.model = build(self.cfg.model)
        if "supernet" in name:
            self.set_path(min)
        self.train_batch = read_batch(self.cfg.train_dataloader)
        self.test_batch = read_batch(self.cfg.val_dataloader)

    @functools.cached_property
    def _optimizer(self) -> Any:
        """Of the parameters where they are now: on the pretended device they are other objects."""
        import torch

        return torch.optim.SGD([p for p in self.model.parameters() if p.requires_grad], 1e-3)

    def steps(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield the steps by name, in the order in which they run."""
        import torch

        here = copy.deepcopy(self.model)
        yield "to the device", lambda: self.model.to("cuda")
        yield "equal to the CPU", lambda: self.compare(here)
        if "supernet" in self.name:
            yield "paths", self.train_paths
            yield "search", lambda: self.search(here)
        yield "train", self.train
        yield "train bf16", lambda: self.train(torch.bfloat16)
        if self.name not in NOT_SCALED:
            yield "train fp16", self.train_scaled
        if self.name not in FROZEN:
            yield "activation checkpointing", self.compute_again
        yield "predict", self.predict
        yield "metric", self.measure
        if self.name in AUGMENTED:
            yield "augmented", self.predict_augmented

    def compare(self, here: Any) -> None:
        """Compare with a copy on the CPU."""
        from tests.gpu.comparison import compare, too_far

        found = compare(here, self.model, self.train_batch, self.test_batch)
        if too_far(found, hasattr(here, "roi_head")):
            raise AssertionError(f"the device computes something else: {found}")

    def train(self, dtype: Any = None) -> None:
        """Take one step of an optimizer, with autocast to ``dtype`` if one is given."""
        import torch

        self.model.train()
        batch = self.model.data_preprocessor(copy.deepcopy(self.train_batch), True)
        with torch.autocast("cuda", dtype) if dtype else nullcontext():
            losses = self.model(**batch, mode="loss")
        total, _ = self.model.parse_losses(losses)
        total.backward()
        parameters = [one for one in self.model.parameters() if one.requires_grad]
        torch.nn.utils.clip_grad_norm_(parameters, 35.0)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def train_scaled(self) -> None:
        """Take one step in float16, whose loss is scaled, and whose overflow leaves it out."""
        import torch

        from mmpanoptic.engine import AutocastOptimWrapper

        wrapper = AutocastOptimWrapper(
            "float16", optimizer=self._optimizer, clip_grad={"max_norm": 35.0}
        )
        self.model.train()
        self.model.train_step(copy.deepcopy(self.train_batch), wrapper)
        if wrapper.device_type != "cuda" or not wrapper.loss_scaler.is_enabled():
            raise AssertionError("the loss was not scaled for the device")
        if not all(torch.isfinite(one).all() for one in self.model.parameters()):
            raise AssertionError("parameters are not finite after a step in float16")

    def search(self, here: Any) -> None:
        """Measure a path of a supernet as a search does, on the device and on the CPU."""
        from mmengine.evaluator import Evaluator
        from mmengine.runner import Runner

        from mmpanoptic.models.layers import iter_choices
        from mmpanoptic.nas.evaluation import CandidateEvaluator

        found = []
        for model in (here, self.model):
            loaders = [
                Runner.build_dataloader({**copy.deepcopy(loader), **SERIAL}, seed=0)
                for loader in (self.cfg.train_dataloader, self.cfg.val_dataloader)
            ]
            evaluator = Evaluator(copy.deepcopy(self.cfg.val_evaluator))
            evaluator.dataset_meta = loaders[1].dataset.metainfo
            path = {block.decision: 1 for _, block in iter_choices(model)}
            measure = CandidateEvaluator(model, *loaders, evaluator, seed=0, num_batches=1)
            found.append(measure(path))
        statuses = [record["status"] for record in found]
        if statuses != ["done", "done"] or found[0]["metrics"] != found[1]["metrics"]:
            raise AssertionError(f"a search measures something else on the device: {found}")

    def compute_again(self) -> None:
        """Compare with a copy that computes its blocks again in the backward pass."""
        import torch

        from tests.gpu.comparison import learn

        lean = build({**self.cfg.model, "activation_checkpointing": True}).to("cuda")
        lean.load_state_dict(self.model.state_dict())
        for model in (self.model, lean):
            pick_path(model, min)
        expected, got = [learn(model, self.train_batch) for model in (self.model, lean)]
        torch.testing.assert_close(got[1], expected[1], rtol=0, atol=0)

    def set_path(self, pick: Callable[[range], int]) -> None:
        """Pick a choice of every block of a supernet."""
        pick_path(self.model, pick)

    def train_paths(self) -> None:
        """Train the first and the last choice of every block of a supernet."""
        for pick in (min, max):
            self.set_path(pick)
            self.train()

    def predict(self, model: Any = None, batch: Any = None) -> Any:
        """Run the test step of two images."""
        import torch

        model = model or self.model
        model.eval()
        with torch.no_grad():
            return model.test_step(copy.deepcopy(batch or self.test_batch))

    def measure(self) -> None:
        """Give predictions to the config's metrics."""
        from mmpanoptic.registry import DATASETS, METRICS

        samples = self.predict()
        meta = DATASETS.build(copy.deepcopy(self.cfg.val_dataloader.dataset)).metainfo
        evaluators = self.cfg.val_evaluator
        for one in evaluators if isinstance(evaluators, list | tuple) else [evaluators]:
            metric = METRICS.build(copy.deepcopy(one))
            metric.dataset_meta = meta
            metric.process(None, [sample.to_dict() for sample in samples])
            metric.evaluate(len(samples))

    def predict_augmented(self) -> None:
        """Run the test step of two images with test-time augmentation."""
        from mmpanoptic.engine.testing import use_test_time_augmentation

        cfg = copy.deepcopy(self.cfg)
        use_test_time_augmentation(cfg)
        self.predict(build(cfg.model).to("cuda"), read_batch(cfg.test_dataloader))


def examine(name: str, data: Path) -> dict[str, Any]:
    """Run the steps of a system; what fails is told and the next step follows."""
    from tests.pretended_gpu.device import RECORD

    found = {}
    for step, run in System(name, data).steps():
        RECORD.clear()
        try:
            run()
            error = None
        except Exception:
            error = traceback.format_exc(limit=-12)
        found[step] = {
            "error": error,
            "kernels": RECORD.kernels,
            "waits": [[kind, line, count] for (kind, line), count in RECORD.waits.most_common()],
            "to_host": RECORD.to_host,
            "to_device": RECORD.to_device,
            "kernels_beside_copies": RECORD.kernels_beside_copies,
        }
    return found


def examine_device() -> dict[str, Any]:
    """Do what a GPU refuses, and what a host waits for."""
    import numpy as np
    import torch

    from tests.pretended_gpu.device import RECORD

    here, there = torch.arange(3.0), torch.arange(3.0, device="cuda")
    trials = {
        "mixed operands": lambda: here + there,
        "write to the CPU": lambda: here.add_(there),
        "array": lambda: np.asarray(there),
        "number of the CPU": lambda: there + torch.tensor(1.0),
    }
    found: dict[str, Any] = {}
    for name, trial in trials.items():
        try:
            trial()
            found[name] = "fine"
        except Exception as error:
            found[name] = type(error).__name__
    RECORD.clear()
    there.sum().item(), there.nonzero(), there[there > 1], there.cpu()
    found["waits"] = {kind: count for (kind, _), count in RECORD.waits.items()}
    return found


def examine_operators() -> dict[str, int]:
    """Count the waits of operators that pure PyTorch computes on the device."""
    import torch
    from mmcv.ops import nms, roi_align

    from mmpanoptic.models.postprocess.solov2_selection import matrix_nms
    from mmpanoptic.ops.roi_align import pool_masks
    from tests.pretended_gpu.device import RECORD

    def random(*shape: int) -> Any:
        return torch.rand(shape).to("cuda")

    corners = random(3000, 2) * 100
    boxes = torch.cat([corners, corners + random(3000, 2) * 40 + 1], 1)
    rois = torch.cat([torch.zeros_like(boxes[:50, :1]), boxes[:50]], 1)
    few, masks = torch.arange(50, device="cuda"), random(50, 90, 110) > 0.5
    features = random(1, 8, 160, 160).requires_grad_()
    calls: dict[str, Callable[[], Any]] = {
        "nms": lambda: nms(boxes, random(3000), 0.5),
        "mask targets": lambda: pool_masks(masks.float(), few, boxes[:50], (28, 28)),
        "matrix nms": lambda: matrix_nms(masks.flatten(1), few % 5, random(50)),
        "roi align": lambda: roi_align(features, rois, 7, 1.0, 2).sum().backward(),
    }
    waits = {}
    for name, call in calls.items():
        RECORD.clear()
        call()
        # The random numbers of a call come from the host.
        waits[name] = sum(
            count for (_, line), count in RECORD.waits.items() if line.startswith("mmpanoptic")
        )
    return waits


def examine_classes() -> list[int]:
    """Count the kernels of a matrix NMS of few and of many classes."""
    import torch

    from mmpanoptic.models.postprocess.solov2_selection import matrix_nms
    from tests.pretended_gpu.device import RECORD

    masks, scores = torch.rand(80, 500).to("cuda") > 0.5, torch.rand(80).to("cuda")
    counts = []
    for classes in (2, 40):
        labels = torch.arange(80, device="cuda") % classes
        RECORD.clear()
        matrix_nms(masks, labels, scores)
        counts.append(RECORD.kernels)
    return counts


def examine_saved_instances() -> dict[str, Any]:
    """Fuse semantic logits of the device with instances of files; compare with the CPU."""
    import torch

    from mmpanoptic.models.fusion_heads.saved_instances import SavedInstanceFusionHead
    from tests.models import test_saved_instances as made
    from tests.pretended_gpu.device import RECORD

    model = made.joint_model()
    found: dict[str, Any] = {"waits": [], "things": [], "equal": []}
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        made.save(model, Path(folder))
        head = SavedInstanceFusionHead(folder, made.CLASSES, made.FUSION)
        for image, sample in zip(made.images(), made.samples(), strict=True):
            logits = model.semantic_head(model.extract_feat(image[None]))
            results = []
            for device in ("cpu", "cuda"):
                there = logits.to(device)
                RECORD.clear()
                results += head.to(device).predict(there, None, [sample.metainfo])
                waits = [[*key, count] for key, count in RECORD.waits.items()]
            found["waits"].append(waits)
            here, there = (one["pred_panoptic_seg"] for one in results)
            found["things"].append(sum(segment["isthing"] for segment in here.segments_info))
            found["equal"].append(bool(torch.equal(here.index_map, there.index_map.cpu())))
    return found


def examine_deformable() -> dict[str, Any]:
    """Count the kernels of the backward pass of deformable convolutions; compare with the CPU."""
    import torch
    from mmcv.ops import deform_conv2d, modulated_deform_conv2d

    from tests.gpu.comparison import deviation
    from tests.pretended_gpu.device import RECORD

    shapes = {"v1": [(2, 64, 12, 16), (2, 18, 12, 16), (64, 2, 3, 3)]}
    shapes["v2"] = [*shapes["v1"][:2], (2, 9, 12, 16), *shapes["v1"][2:]]
    calls = {
        "v1": lambda *leaves: deform_conv2d(*leaves, 1, 1, 1, 32),
        "v2": lambda *leaves: modulated_deform_conv2d(*leaves, None, 1, 1, 1, 32),
    }
    found = {}
    for name, call in calls.items():
        values = [torch.randn(shape) for shape in shapes[name]]
        results = []
        for device in ("cpu", "cuda"):
            leaves = [value.clone().to(device).requires_grad_() for value in values]
            output = call(*leaves)
            RECORD.clear()
            output.square().sum().backward()
            results.append([output, *(leaf.grad for leaf in leaves)])
        found[name] = {"kernels": RECORD.kernels, "deviation": deviation(*results)}
    return found


def main() -> None:
    """Read the command line, examine the systems, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="shapes with relations")
    parser.add_argument("out", type=Path)
    parser.add_argument("--guard", type=Path, required=True, help="folder of compiled guards")
    parser.add_argument("--only", nargs="*", default=list(TINY))
    args = parser.parse_args()
    guard.load(guard.library(args.guard))

    import torch
    from mmengine.registry import init_default_scope

    import mmpanoptic  # noqa: F401  registers what the configs name
    from tests.gpu import metrics
    from tests.pretended_gpu import cut_costs
    from tests.pretended_gpu.device import PretendedGPU

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    init_default_scope("mmpanoptic")
    with PretendedGPU():
        results: dict[str, Any] = {"the device itself": examine_device()}
        results["operators"] = examine_operators()
        results["deformable"] = examine_deformable()
        results["classes"] = examine_classes()
        results["saved instances"] = examine_saved_instances()
        results["costs"] = cut_costs.examine()
        with tempfile.TemporaryDirectory() as folder:
            results["metrics"] = metrics.compare(Path(folder))
    for name in args.only:
        with PretendedGPU():
            results[name] = examine(name, args.data)
        args.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
