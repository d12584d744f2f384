"""Write docs/training_memory.json, the memory of a training step of every config of real data."""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mmpanoptic import cli
from mmpanoptic.utils import atomic_write, write_json

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "training_memory.json"
PAGE = ROOT / "docs" / "gpu.md"
GIB = 1 << 30
CARDS = (24, 40, 80)
"""Memory of usual GPUs in GiB."""
SMALL = (256, 384)
"""Losses of maps, which are linear in the pixels, are computed at this size for larger images."""
FROZEN = -1
"""Stands for the most that the maps of a frozen network take at a time."""
COLUMNS = ("float32", "float32, checkpointing", "bfloat16", "bfloat16, checkpointing")
USABLE = 0.92
"""Share of it that tensors may take: CUDA's context, fragments and workspaces need the rest."""
UNCOUNTED = "MMDetPanopticSegmentor"
"""Its Mask2Former computes with the sizes of maps as values, which shapes alone do not have."""
EXAMPLES = """
  %(prog)s                  # those that are not in the file yet
  %(prog)s --again NAME     # count a config anew

Nothing is computed: the network runs on shapes alone (torch's fake tensors, as on CUDA), losses of
maps on one made-up image. What autograd keeps for the backward pass is counted once for each piece
of memory. A two-stage model gets as many boxes as its config allows at most.
"""


class Kept:
    """What autograd keeps of a forward pass, by piece of memory.

    Args:
        model (nn.Module): Its weights do not count.
        blocks (Sequence[nn.Module]): Told apart, since they may be computed again.
    """

    def __init__(self, model: Any, blocks: Any = ()) -> None:
        self.own = {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        self.sizes: dict[int, int] = {}
        self.places: dict[int, set[int | None]] = {}
        self.alive: list[Any] = []
        self.running: int | None = None
        self.blocks = list(blocks)

    def _enter(self, number: int) -> Callable[..., None]:
        def hook(_: Any, inputs: Any) -> None:
            self.running = None
            for tensor in inputs:
                if hasattr(tensor, "untyped_storage") and tensor.is_floating_point():
                    self._note(tensor)  # computing again begins with the inputs
            self.running = number

        return hook

    def _leave(self, *_: Any) -> None:
        self.running = None

    def _note(self, tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.own:
            self.alive.append(storage)
            self.sizes[key] = storage.nbytes()
            self.places.setdefault(key, set()).add(self.running)
        return tensor

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Follow what is kept in this block."""
        import torch

        hooks = []
        for number, block in enumerate(self.blocks):
            hooks.append(block.register_forward_pre_hook(self._enter(number)))
            hooks.append(block.register_forward_hook(self._leave))
        try:
            with torch.autograd.graph.saved_tensors_hooks(self._note, lambda tensor: tensor):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def total(self) -> int:
        """Bytes."""
        return sum(self.sizes.values())

    @property
    def largest(self) -> int:
        """Bytes of the largest piece."""
        return max(self.sizes.values(), default=0)

    @property
    def with_checkpointing(self) -> int:
        """Bytes if blocks are computed again: what lies between them, and the largest block."""
        between = sum(self.sizes[key] for key, where in self.places.items() if None in where)
        inside: dict[int, int] = {}
        for key, where in self.places.items():
            for number in (block for block in where if block is not None):
                inside[number] = inside.get(number, 0) + self.sizes[key]
        return between + max(inside.values(), default=0)


def memory_of(cfg: Any, size: tuple[int, int], device: str = "cuda") -> dict[str, Any]:
    """Count the memory of a training step.

    Args:
        cfg (Config): Resolved with the classes of :func:`mmpanoptic.apis.speed.make_table`.
        size (tuple[int, int]): Height and width of its images.
        device (str): Whose rules of types hold; bfloat16 is counted on "cuda" alone.

    Returns:
        dict: ``batch`` and ``size`` of the config; ``trained`` weights, ``moments`` that the
        optimizer keeps of each; ``fixed``, bytes of weights, gradients and the optimizer's state;
        of each precision bytes an image: ``kept`` for the backward pass, ``checkpointed`` (the same
        with ``activation_checkpointing``, None where the config sets it, the backbone is frozen or
        nothing is gained) and ``largest``, the largest of them.
    """
    import torch
    from mmengine.registry import init_default_scope

    from mmpanoptic.apis.speed import make_batch

    init_default_scope("mmpanoptic")
    cfg = copy.deepcopy(cfg)
    always = cfg.model.pop("activation_checkpointing", False)
    model = build(cfg.model)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    weights = sum(t.numel() * t.element_size() for t in (*model.parameters(), *model.buffers()))
    optimizer = str(cfg.optim_wrapper.optimizer.type)
    moments = {"SGD": 1}.get(optimizer, 2)
    found: dict[str, Any] = {
        "batch": cfg.train_dataloader.batch_size,
        "size": list(size),
        "trained": trained,
        "moments": moments,
        "fixed": weights + 4 * trained * (1 + moments),
    }
    sample = make_batch(cfg, 1, *size)
    padded = tuple(model.data_preprocessor(sample, True)["inputs"].shape[2:])
    small = SMALL if size[0] * size[1] > 8 * SMALL[0] * SMALL[1] else padded
    ratio = padded[0] * padded[1] / (small[0] * small[1])
    sample = make_batch(cfg, 1, *small) if small is SMALL else sample
    precisions = {"fp32": None, "bf16": torch.bfloat16} if device == "cuda" else {"fp32": None}
    blocks = blocks_of(model)
    for name, dtype in precisions.items():
        network, loss = Kept(model, blocks), Kept(model)
        outputs = on_shapes(model, network, padded, dtype, device)
        if small is SMALL and not hasattr(model, "network"):
            outputs = on_shapes(model, Kept(model), small, dtype, device)
        with loss.watching(), torch.autocast("cpu", dtype, enabled=dtype is not None):
            loss_of_maps(model, outputs, sample)
        kept = network.total + int(ratio * loss.total)
        lean = network.with_checkpointing + int(ratio * loss.total)
        found[name] = {
            "kept": lean if always else kept,
            "checkpointed": lean if blocks and lean < kept and not always else None,
            "largest": max(network.largest, int(ratio * loss.largest)),
        }
    return found


def build(cfg: Any) -> Any:
    """Build a model whose weights are never drawn: only their sizes count."""
    import torch
    from mmengine.model import revert_sync_batchnorm

    from mmpanoptic.registry import MODELS

    drawn = ("kaiming_uniform_", "uniform_", "normal_", "trunc_normal_", "xavier_uniform_")
    saved = {name: getattr(torch.nn.init, name) for name in drawn}
    for name in drawn:
        setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)
    try:
        model = revert_sync_batchnorm(MODELS.build(cfg)).train()
    finally:
        for name, function in saved.items():
            setattr(torch.nn.init, name, function)
    _set_heaviest_path(model)
    return model


def _set_heaviest_path(model: Any) -> None:
    """Choose what has most weights, in a supernet."""
    from mmpanoptic.models.layers import iter_choices, set_path

    path = {}
    for _, block in iter_choices(model):
        sizes = [sum(p.numel() for p in choice.parameters()) for choice in block]
        path[block.decision] = sizes.index(max(sizes))
    if path:
        set_path(model, path)


def blocks_of(model: Any) -> list[Any]:
    """List what ``activation_checkpointing`` would compute again, if it may."""
    from mmpanoptic.models.layers.checkpointing import find_blocks

    if hasattr(model, "network"):  # a guest
        from transformers.modeling_layers import GradientCheckpointingLayer

        return [m for m in model.network.modules() if isinstance(m, GradientCheckpointingLayer)]
    blocks = list(find_blocks(model.backbone))
    with_cp = any(getattr(part, "with_cp", False) for part in model.backbone.modules())
    trained = any(p.requires_grad for block in blocks for p in block.parameters())
    return blocks if trained and not with_cp else []


@contextlib.contextmanager
def fake_weights(model: Any, device: str) -> Iterator[None]:
    """Give a model weights that have a shape and a device alone; to be used in fake mode."""
    import torch
    from torch import nn

    changed, made = [], {}
    for part in model.modules():
        for kind in (part._parameters, part._buffers):
            for key, value in kind.items():
                if value is None:
                    continue
                if id(value) not in made:
                    fake = torch.empty(value.shape, dtype=value.dtype, device=device)
                    trained = value.requires_grad
                    is_weight = isinstance(value, nn.Parameter)
                    made[id(value)] = nn.Parameter(fake, trained) if is_weight else fake
                changed.append((kind, key, value))
                kind[key] = made[id(value)]
    try:
        yield
    finally:
        for kind, key, value in changed:
            kind[key] = value


@contextlib.contextmanager
def pretended_cuda() -> Iterator[None]:
    """Let fake tensors and autocast name a CUDA device that is not there."""
    from unittest import mock

    import torch
    from torch._subclasses import fake_tensor

    patches = [
        (fake_tensor, "init_gpu_context"),
        (torch.cuda, "is_bf16_supported"),
        (torch.cuda.amp.common, "amp_definitely_not_available"),
        (torch.cuda, "_lazy_init"),
    ]
    saved = [(owner, name, getattr(owner, name)) for owner, name in patches if hasattr(owner, name)]
    answers = {"is_bf16_supported": True, "amp_definitely_not_available": False}
    for owner, name, _ in saved:
        setattr(owner, name, mock.Mock(return_value=answers.get(name)))
    try:
        yield
    finally:
        for owner, name, function in saved:
            setattr(owner, name, function)


def on_shapes(model: Any, kept: Kept, size: tuple[int, int], dtype: Any, device: str) -> Any:
    """Run the network on shapes.

    Args:
        model (PanopticModel): In training mode.
        kept (Kept): Receives what is kept for the backward pass.
        size (tuple[int, int]): Height and width of the image.
        dtype (torch.dtype | None): Of autocast.
        device (str): "cuda", which needs not be there, or "cpu".

    Returns:
        Any: Outputs of the network, fake.
    """
    from unittest import mock

    import numpy as np
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    with pretended_cuda(), FakeTensorMode(allow_non_fake_inputs=True), fake_weights(model, device):
        kept.own |= {p.untyped_storage()._cdata for p in (*model.parameters(), *model.buffers())}
        image = torch.empty(1, 3, *size, device=device)
        with kept.watching(), torch.autocast(device, dtype, enabled=dtype is not None):
            if hasattr(model, "network"):
                with mock.patch("torch.isfinite", return_value=np.True_):  # shapes have no values
                    return model.run(image)
            if hasattr(model, "rpn_head"):
                return _two_stages(model, image, kept)
            return model.forward_heads(image)


def _two_stages(model: Any, image: Any, kept: Kept) -> Any:
    """Run a two-stage network with as many boxes as may be sampled; return the semantic logits."""
    import torch

    from mmpanoptic.apis.complexity import LiveStorages

    head, frozen = model.roi_head, model.train_extra_heads_only
    alive = LiveStorages()
    with torch.set_grad_enabled(not frozen), alive if frozen else contextlib.nullcontext():
        feats, semantic = model.exchange(model.extract_feat(image))
        model.rpn_head(feats)
    number = int(model.roi_head.train_cfg.sampler.num)
    masks = int(number * model.roi_head.train_cfg.sampler.pos_fraction)

    def pooled(count: int, extractor: Any, extra: int = 0) -> Any:
        side = extractor.roi_layers[0].output_size
        shape = (count, extractor.out_channels + extra, *side)
        return torch.empty(shape, device=image.device, requires_grad=not frozen)

    if frozen:
        found = pooled(masks, head.mask_roi_extractor, 1)
        for name in head.EXTRA_HEADS:
            part = getattr(head, name)
            if hasattr(part, "forward_pairs"):
                pairs = torch.zeros(masks, 2, dtype=torch.long, device=image.device)
                part.forward_pairs(part.halves(found), pairs)
            else:
                part(found)
        kept.sizes[FROZEN] = alive.most
        kept.places[FROZEN] = {None}
        return None
    head.bbox_head(pooled(number, head.bbox_roi_extractor))
    head.mask_head(pooled(masks, head.mask_roi_extractor))
    return semantic


def loss_of_maps(model: Any, outputs: Any, sample: Mapping[str, Any]) -> None:
    """Compute the losses of maps from made-up outputs.

    Args:
        model (PanopticModel): With its real buffers.
        outputs (Any): Fake outputs of the network: their shapes and types are used.
        sample (Mapping): A batch of one image before the data preprocessor.
    """
    import torch
    from torch.utils._pytree import tree_map

    from mmpanoptic.apis.speed import COLUMNS, ROWS

    def made_up(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point():
            return leaf
        if leaf.dim() == 4:  # as many regions as the image has
            regions = torch.randn(*leaf.shape[:2], ROWS, COLUMNS)
            value = torch.nn.functional.interpolate(regions, leaf.shape[2:])
        else:
            value = torch.randn(leaf.shape)
        value = value.to(leaf.dtype)
        return value.requires_grad_(leaf.requires_grad)

    if outputs is None or hasattr(model, "network"):
        return
    torch.manual_seed(0)
    outputs = tree_map(made_up, outputs)
    samples = model.data_preprocessor(sample, True)["data_samples"]
    if hasattr(model, "rpn_head"):
        model.semantic_head.loss_by_feat(outputs, samples)
        return
    before = model.forward_heads
    model.forward_heads = lambda *_: outputs
    try:
        model.loss(torch.empty(0), samples)
    finally:
        model.forward_heads = before


def bytes_of(figures: Mapping[str, Any], precision: str, images: int, lean: bool = False) -> int:
    """Bytes of a training step.

    The rule: weights, gradients and the optimizer's state; what is kept for the backward pass of
    all images; twice the largest piece of it, which is being computed from and written to.

    Args:
        figures (Mapping): From :func:`memory_of`.
        precision (str): "fp32" or "bf16".
        images (int): Of a batch.
        lean (bool): With ``activation_checkpointing``.
    """
    found = figures[precision]
    kept = found["checkpointed"] if lean else found["kept"]
    return int(figures["fixed"] + images * (kept + 2 * found["largest"]))


def largest_batch(figures: Mapping[str, Any], precision: str, card: int, lean: bool = False) -> int:
    """Images of the largest batch that fits a GPU of so many GiB; 0 if none does."""
    room = card * GIB * USABLE - figures["fixed"]
    one = bytes_of(figures, precision, 1, lean) - figures["fixed"]
    return max(0, int(room // one))


def to_markdown(figures: Mapping[str, Any]) -> str:
    """Lay the figures out as the table of the page."""
    lines = [
        _row("config", "size", "batch", "GiB at this batch, float32, bfloat16", *COLUMNS),
        _row(*["---"] * (4 + len(COLUMNS))),
    ]
    for name, found in figures.items():
        height, width = found["size"]
        needed = [bytes_of(found, kind, found["batch"]) / GIB for kind in ("fp32", "bf16")]
        cells = [name, f"{height}x{width}", found["batch"], ", ".join(f"{n:.1f}" for n in needed)]
        for kind in ("fp32", "bf16"):
            for lean in (False, True):
                cards = CARDS if not lean or found[kind]["checkpointed"] is not None else ()
                batches = [str(largest_batch(found, kind, card, lean)) for card in cards]
                cells.append(" / ".join(batches) or "—")
        lines.append(_row(*cells))
    return "\n".join(lines)


def pretrainings(figures: Mapping[str, Any]) -> str:
    """Lay out what the pretrainings of COPS take with the options that fit them on 24 GB."""
    lines = [
        _row("config", *COLUMNS, "float32, checkpointing, 2 x 6 images"),
        _row(*["---"] * (2 + len(COLUMNS))),
    ]
    cases = [("fp32", 12, False), ("fp32", 12, True), ("bf16", 12, False), ("bf16", 12, True)]
    for name, found in figures.items():
        if name.startswith("cops_") and "_pretrain_" in name:
            needed = [bytes_of(found, *case) / GIB for case in (*cases, ("fp32", 6, True))]
            lines.append(_row(name, *(f"{one:.1f}" for one in needed)))
    return "\n".join(lines)


def _row(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def write_page(figures: Mapping[str, Any]) -> None:
    """Put the tables into the page, each between two comments."""
    text = PAGE.read_text(encoding="utf-8")
    for mark, table in (("memory", to_markdown(figures)), ("cops", pretrainings(figures))):
        begin, end = f"<!-- {mark} -->\n", f"<!-- end of {mark} -->"
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}{table}\n{end}{rest.partition(end)[2]}"
    with atomic_write(PAGE) as path:
        path.write_text(text, encoding="utf-8")


def build_parser() -> cli.Parser:
    """Say what the command takes."""
    parser = cli.Parser(__doc__, EXAMPLES)
    parser.add("--again", nargs="+", default=[], metavar="CONFIG", help="configs to count anew")
    return parser


def run(args: argparse.Namespace) -> Iterator[str]:
    """Count what is missing; each figure is written at once."""
    unknown = [name for name in args.again if not any(ROOT.glob(f"configs/*/{name}.py"))]
    if unknown:
        raise cli.Failure(f"{', '.join(unknown)}: no config of real data; see configs/")
    sys.path.insert(0, str(ROOT))  # for the tests' guard of a pretended GPU and list of configs
    from tests.pretended_gpu import guard

    if guard.compiler() is None:
        raise cli.Failure("no C++ compiler, which the pretended GPU needs; install g++ or set CXX")
    with tempfile.TemporaryDirectory() as folder:  # before torch is loaded
        guard.load(guard.library(Path(folder)))
    from tests.gpu.real_configs import real_configs, resolve, size_of

    names = [n for n in real_configs() if resolve(n).model.type != UNCOUNTED]
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    known = {name: known[name] for name in names if name in known and name not in args.again}
    for name in cli.track([name for name in names if name not in known], "configs"):
        known[name] = memory_of(resolve(name), size_of(name))
        write_json(FIGURES, {name: known[name] for name in names if name in known}, indent=1)
    write_page({name: known[name] for name in names})
    yield f"{FIGURES} and {PAGE} written: {len(known)} configs"


main = cli.Command(build_parser, run)

if __name__ == "__main__":
    raise SystemExit(main())
