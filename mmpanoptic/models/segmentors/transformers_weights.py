"""Weights of the transformers package for its guests: whole models, and backbones of EoMT."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mmpanoptic.registry import ConfigError

POSITIONS = "embeddings.position_embeddings.weight"
PROBABILITIES = "attn_mask_probs"
CLASS_PARTS = ("class_predictor.", "criterion.empty_weight")
CLASS_PARTS_ONEFORMER = ("model.transformer_module.decoder.class_embed.",)


def import_transformers() -> Any:
    """Import the library.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "TransformersPanopticSegmentor needs transformers 5: pip install "
            f"'mmpanoptic[transformers]' ({error})"
        ) from error
    return transformers


@contextmanager
def explained_missing(source: str) -> Iterator[None]:
    """Turn the library's errors about files into one line.

    Args:
        source (str): Folder or id.

    Raises:
        ConfigError: In their place.
    """
    try:
        yield
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"pretrained = {source!r}: {first} A folder needs config.json and model.safetensors; "
            "an id of the hub is fetched once, then taken from its cache (HF_HOME), offline with "
            "HF_HUB_OFFLINE=1; gated weights need your token (hf auth login)"
        ) from error


def read_pretrained(source: str) -> Any:
    """Build the network that lies in a folder or on the hub, as it is.

    Args:
        source (str): Folder or id.

    Returns:
        PreTrainedModel: With its own config and weights.

    Raises:
        ConfigError: If it cannot be found, or its weights lack something.
    """
    library = import_transformers()
    with explained_missing(source):
        found, report = library.AutoModelForUniversalSegmentation.from_pretrained(
            source, output_loading_info=True
        )
    if report["missing_keys"]:
        raise ConfigError(
            f"pretrained = {source!r} lacks {len(report['missing_keys'])} tensors of its own "
            f"config, such as {min(report['missing_keys'])}; weights in the authors' names, or "
            "differences to a backbone (DINOv3), have to be converted first"
        )
    return found


def fit_weights(
    found: Any, own: Mapping[str, Tensor], config: Any, source: str, reset_classes: bool
) -> dict[str, Tensor]:
    """Choose the weights of a network with, perhaps, other classes and another size of images.

    Args:
        found (PreTrainedModel): From :func:`read_pretrained`.
        own (Mapping): Weights that the network begins with.
        config (PretrainedConfig): Of the network.
        source (str): Names the weights in messages.
        reset_classes (bool): Do not take the class layer.

    Returns:
        dict[str, Tensor]: By name. Position tables of EoMT are resampled; the class layer is the
        network's own if the classes differ in number.

    Raises:
        ConfigError: If another tensor does not fit, or the classes are as many but others.
    """
    if found.config.model_type != config.model_type:
        raise ConfigError(
            f"pretrained = {source!r} is of the model_type {found.config.model_type}, the network "
            f"of {config.model_type}"
        )
    state = found.state_dict()
    parts = CLASS_PARTS_ONEFORMER + CLASS_PARTS
    same = len(found.config.id2label) == len(config.id2label) and not reset_classes
    if same:
        _check_names(found.config.id2label, config.id2label, source)
    for name, value in own.items():
        given = state.get(name)
        if not same and name.startswith(parts):
            state[name] = value
        elif name == POSITIONS and given is not None and given.shape != value.shape:
            state[name] = resample_positions(given, len(value))
        elif given is None or given.shape != value.shape:
            size = "is missing" if given is None else f"has the shape {tuple(given.shape)}"
            raise ConfigError(
                f"pretrained = {source!r}: {name} {size}, the network needs {tuple(value.shape)}; "
                "only the classes and EoMT's image_size may differ, give all other fields of "
                "network as in the config.json of the weights"
            )
    surplus = sorted(state.keys() - own.keys())
    if surplus:
        raise ConfigError(
            f"pretrained = {source!r} has {len(surplus)} tensors that the network lacks, such as "
            f"{surplus[0]}; give the fields of network as in its config.json"
        )
    return state


def _check_names(found: Mapping[int, str], own: Mapping[int, str], source: str) -> None:
    """Refuse a class layer that was trained for others of as many classes."""
    pairs = [(found[label], name) for label, name in own.items()]
    if all(name.startswith("LABEL_") for name, _ in pairs):  # the library's placeholder
        return
    equal = sum(_words(one) == _words(other) for one, other in pairs)
    if 2 * equal < len(pairs):
        raise ConfigError(
            f"pretrained = {source!r} has {len(pairs)} classes, too, but {len(pairs) - equal} of "
            f"them have other names (its class 0 is {pairs[0][0]!r}, yours {pairs[0][1]!r}); set "
            "reset_classes=True to start the class layer anew, or order your classes as there"
        )


def _words(name: str) -> str:
    return name.lower().replace("-", " ").replace("_", " ").removesuffix(" merged").strip()


def resample_positions(table: Tensor, cells: int) -> Tensor:
    """Resample EoMT's position table to another square grid, bicubic.

    Args:
        table (Tensor): ``(n * n, D)``.
        cells (int): m * m.

    Returns:
        Tensor: ``(m * m, D)``.
    """
    old, new = round(len(table) ** 0.5), round(cells**0.5)
    grid = table.T.reshape(1, -1, old, old)
    grid = functional.interpolate(grid, size=(new, new), mode="bicubic", antialias=True)
    return grid.flatten(2)[0].T.contiguous()


# ---- backbones of EoMT --------------------------------------------------------------------------

BACKBONES = {
    "eomt": ("dinov2", "dinov2_with_registers"),
    "eomt_dinov3": ("dinov3_vit",),
}
"""``model_type`` of the backbones that each family can begin with."""
HEADS = re.compile(r"(query|class_predictor|mask_head|upscale_block|criterion|attn_mask_probs)\b")
"""Parts of EoMT that no backbone has."""
PATCHES = ("embeddings.patch_embeddings.projection.weight", "embeddings.patch_embeddings.weight")


def read_backbone(source: str, family: str) -> Any:
    """Build the backbone that lies in a folder or on the hub.

    Args:
        source (str): Folder or id.
        family (str): ``model_type`` of the network.

    Returns:
        PreTrainedModel: With its own config and weights.

    Raises:
        ConfigError: If it cannot be found, lacks something, or is none for this family.
    """
    kinds = BACKBONES.get(family)
    if kinds is None:
        raise ConfigError(
            f"backbone_pretrained is for {' and '.join(BACKBONES)}, whose network is the backbone; "
            f"network.model_type is {family}"
        )
    library = import_transformers()
    with explained_missing(source):
        found, report = library.AutoModel.from_pretrained(source, output_loading_info=True)
    kind = found.config.model_type
    if kind not in kinds:
        raise ConfigError(
            f"backbone_pretrained = {source!r} is of the model_type {kind}; {family} begins with "
            f"{' or '.join(kinds)}"
        )
    if report["missing_keys"]:
        raise ConfigError(
            f"backbone_pretrained = {source!r} lacks {len(report['missing_keys'])} tensors of its "
            f"own config, such as {min(report['missing_keys'])}"
        )
    return found


def fit_backbone(found: Any, own: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Bring a backbone's weights into the names and sizes of EoMT.

    The position table is resampled, and so are patches of another size, by the pseudo-inverse of
    the resize (FlexiViT, arXiv:2212.08013), so that a resized patch has the value that it had.
    EoMT's class token has no position; that of DINOv2 is added to it.

    Args:
        found (PreTrainedModel): From :func:`read_backbone`.
        own (Mapping): Weights that the network begins with.
        source (str): Names the weights in messages.

    Returns:
        dict[str, Tensor]: By name, all but those of EoMT's heads.

    Raises:
        ConfigError: If one does not fit.
    """
    state = {
        _eomt_name(name, "layers.0.attention.out_proj.weight" in own): value
        for name, value in found.state_dict().items()
        if not name.endswith("mask_token")
    }
    positions = state.pop("embeddings.position_embeddings", None)
    if positions is not None:
        state["embeddings.cls_token"] = state["embeddings.cls_token"] + positions[:, :1]
        state[POSITIONS] = resample_positions(positions[0, 1:], len(own[POSITIONS]))
    for name in PATCHES:
        if name in state and name in own:
            state[name] = resample_patches(state[name], own[name].shape[-1])
    wanted = {n: v for n, v in own.items() if not HEADS.match(n) and v.numel()}
    for name in sorted(wanted.keys() | state.keys()):
        ours, theirs = wanted.get(name), state.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = ["none" if one is None else tuple(one.shape) for one in (theirs, ours)]
            raise ConfigError(
                f"backbone_pretrained = {source!r}: {name} has the shape {shapes[0]}, the network "
                f"{shapes[1]}; give hidden_size, num_hidden_layers, num_register_tokens and all "
                "else of the transformer as in the config.json of the weights"
            )
    return state


def _eomt_name(name: str, has_out_proj: bool) -> str:
    name = re.sub(r"^(encoder|model)\.layer\.", "layers.", name)
    name = re.sub(r"^norm\.", "layernorm.", name)
    return name.replace("attention.o_proj.", "attention.out_proj.") if has_out_proj else name


def resample_patches(weight: Tensor, size: int) -> Tensor:
    """Resample a patch embedding so that resized patches keep their values.

    Args:
        weight (Tensor): ``(D, C, p, p)``.
        size (int): q, the new side.

    Returns:
        Tensor: ``(D, C, q, q)``.
    """
    old = weight.shape[-1]
    if old == size:
        return weight
    unit = torch.eye(old * old, dtype=torch.float64).view(-1, 1, old, old)
    resized = functional.interpolate(unit, size=(size, size), mode="bicubic", antialias=True)
    inverse = torch.linalg.pinv(resized.flatten(1))  # (q * q, p * p)
    flat = weight.double().flatten(2) @ inverse.T
    return flat.view(*weight.shape[:2], size, size).to(weight.dtype)
