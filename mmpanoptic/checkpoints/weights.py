"""Weights by name: the manifest of published files, and the addresses that name a file."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlparse

import mmengine
import yaml
from mmengine.config import Config

from .download import RemoteFile, cache_folder, check_address, fetch
from .errors import CheckpointError

MANIFEST = Path(__file__).with_name("weights.yml")
SCHEME = "mmpanoptic://"
SCHEMES = (SCHEME, "timm://", "hf://", "torchvision://", "open-mmlab://", "https://", "http://")
"""How addresses begin; all else is a path."""
_HASHED_NAME = re.compile(r"-(?!20\d{6}\.)([0-9a-f]{8,64})\.\w+$")
"""File name that ends in the beginning of its sha256; eight digits of a date are none."""


@dataclass(frozen=True)
class PublishedWeights:
    """An entry of the manifest; what its fields mean says the head of ``weights.yml``."""

    id: str
    group: str
    licence: str
    page: str
    format: str
    converter: str
    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    file: str
    url: tuple[str, ...] = ()
    by_hand: str | None = None
    instead: tuple[str, ...] = ()
    size: int | None = None
    mb: float | None = None
    sha256: str | None = None
    md5: str | None = None
    initial: bool = False
    config: str | None = None
    note: str | None = None

    @property
    def address(self) -> str:
        """What a config or a command calls it."""
        return SCHEME + self.id

    @property
    def remote(self) -> RemoteFile:
        """The file and its place in the cache."""
        return RemoteFile(
            self.address,
            self.url,
            cache_folder() / PurePosixPath(self.id) / self.file,
            self.size,
            self.sha256,
            self.md5,
            self._by_hand(),
        )

    @property
    def megabytes(self) -> float | None:
        """Size in 10^6 bytes, if known."""
        return self.size / 1e6 if self.size else self.mb

    def facts(self) -> list[tuple[str, str]]:
        """List all that is known: labels and values."""
        size = f"{self.size} bytes" if self.size else f"about {self.mb:.0f} MB" if self.mb else None
        hashes = [f"{kind} {getattr(self, kind)}" for kind in ("sha256", "md5")]
        known = [text for text in hashes if not text.endswith(" None")]
        known += [] if known else ["none published; taken at the first download"]
        facts = {
            "weights": self.address,
            "file": self.file,
            "from": "\n             ".join(self.url) or f"by hand: {self.by_hand}",
            "instead": "; ".join(self.instead),
            "size": size,
            "hash": ", ".join(known),
            "licence": self.licence,
            "page": self.page,
            "format": f"{self.format}, converted by {self.converter}",
            "input": f"{self.order}, mean {list(self.mean)}, std {list(self.std)}",
            "config": self.config,
            "note": self.note,
            "place": str(self.remote.path),
        }
        return [(label, value) for label, value in facts.items() if value]

    def _by_hand(self) -> str:
        serves = f"; in its place serves: {', '.join(self.instead)}" if self.instead else ""
        return f"from {self.by_hand} (published at {self.page}{serves})"


@dataclass(frozen=True)
class Located:
    """A local file and what is known of it.

    Attributes:
        path (Path): The file.
        published (PublishedWeights | None): The entry of the manifest, if an id named it.
    """

    path: Path
    published: PublishedWeights | None = None


@cache
def manifest() -> dict[str, PublishedWeights]:
    """Read the manifest: entries by id.

    Raises:
        ValueError: If an entry is wrong; the message names it and the field.
    """
    content = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    entries: dict[str, PublishedWeights] = {}
    for group in content["groups"]:
        for name, own in group["weights"].items():
            if name in entries:
                raise ValueError(f"{MANIFEST.name}: {name} is there twice")
            settings = {**group.get("common", {}), **own}
            entries[name] = _entry(name, group["title"], settings, content["inputs"])
    return entries


def published(name: str) -> PublishedWeights:
    """Look an entry of the manifest up.

    Args:
        name (str): Its id, with or without ``mmpanoptic://``.

    Raises:
        CheckpointError: If there is none.
    """
    name = name.removeprefix(SCHEME)
    if name not in manifest():
        near = difflib.get_close_matches(name, manifest(), n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise CheckpointError(
            f"there are no weights {SCHEME}{name}; {hint}tools/weights.py list shows all"
        )
    return manifest()[name]


def is_address(text: str) -> bool:
    """Tell whether a text names a file elsewhere; with an unknown scheme it is an error.

    Raises:
        CheckpointError: If the scheme is unknown.
    """
    if text.startswith(SCHEMES):
        return True
    scheme = re.match(r"([\w+.-]{2,})://", text)  # one letter is a drive of Windows
    if scheme:
        raise CheckpointError(
            f"{text}: addresses that begin with {scheme[0]} are not known; use a path or "
            f"{', '.join(SCHEMES[:-1])}"
        )
    return False


def remote_file(address: str) -> RemoteFile:
    """Tell where the file of an address lies, elsewhere and in the cache.

    Args:
        address (str): ``mmpanoptic://ID``; ``timm://MODEL.TAG``; ``hf://OWNER/REPO/FILE``, with
            ``@REVISION`` behind the repository if wanted; ``torchvision://NAME`` and
            ``open-mmlab://NAME`` of mmengine's tables; ``https://...``. Digits behind a hyphen at
            the end of a file name are the beginning of its sha256.

    Raises:
        CheckpointError: If nothing is known under the address.
    """
    if address.startswith(SCHEME):
        return published(address).remote
    url, sha256 = address, None
    if address.startswith(("timm://", "hf://")):
        url = _hugging_face(address)
    elif not address.startswith(("https://", "http://")):
        url = _of_mmengine(address)
    check_address(url)
    parts = urlparse(url)
    path = PurePosixPath(unquote(parts.path).lstrip("/"))
    if ".." in path.parts or not path.name:
        raise CheckpointError(f"{address} names no file")
    hashed = _HASHED_NAME.search(path.name)
    if hashed:
        sha256 = hashed[1]
    if parts.query:  # other files have the same path
        digest = hashlib.sha256(parts.query.encode()).hexdigest()[:8]
        path = path.with_name(f"{digest}-{path.name}")
    host = re.sub(r"[^\w.-]", "_", parts.netloc)
    return RemoteFile(address, (url,), cache_folder() / "urls" / host / path, sha256=sha256)


def locate(address: str, again: bool = False) -> Located:
    """Return the local file of an address, after a download if it is not in the cache.

    Args:
        address (str): See :func:`remote_file`.
        again (bool): Download even if the file is there.

    Raises:
        CheckpointError: If the file cannot be had; the message says what to do.
    """
    entry = published(address) if address.startswith(SCHEME) else None
    return Located(fetch(remote_file(address), again), entry)


def addresses_in(node: Any) -> list[str]:
    """List what a config loads weights from.

    Args:
        node (Any): A config, or a part of one.

    Returns:
        list[str]: Addresses and paths: ``load_from``, ``initial_weights``, and the checkpoints
        that parts of the model are initialised from; of backbones of timm ``timm://MODEL``.
    """
    if isinstance(node, Config):
        return addresses_in(node._cfg_dict)
    if isinstance(node, list | tuple):
        return [found for value in node for found in addresses_in(value)]
    if not isinstance(node, Mapping):
        return []
    named = [node.get("load_from"), node.get("initial_weights")]
    if node.get("type") == "Pretrained":
        named.append(node.get("checkpoint"))
    if str(node.get("type")).endswith("TIMMBackbone") and node.get("pretrained"):
        named.append(f"timm://{node.get('model_name')}")
    own = [value for value in named if isinstance(value, str)]
    return own + [found for value in node.values() for found in addresses_in(value)]


def _entry(
    name: str, group: str, settings: dict[str, Any], inputs: dict[str, Any]
) -> PublishedWeights:
    settings = dict(settings)
    if settings.get("input") not in inputs:
        raise ValueError(f"{MANIFEST.name}: {name} needs input, one of {', '.join(inputs)}")
    known = inputs[settings.pop("input")]
    url = settings.pop("url", ())
    url = (url,) if isinstance(url, str) else tuple(url)
    if bool(url) == bool(settings.get("by_hand")):
        raise ValueError(f"{MANIFEST.name}: {name} needs either url or by_hand")
    settings["file"] = settings.get("file") or PurePosixPath(urlparse(url[0]).path).name
    settings["instead"] = tuple(settings.get("instead", ()))
    wrong = settings.keys() - {field.name for field in fields(PublishedWeights)}
    if wrong:
        raise ValueError(f"{MANIFEST.name}: {name} has unknown fields: {', '.join(sorted(wrong))}")
    return PublishedWeights(
        id=name,
        group=group,
        url=url,
        order=known["order"],
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        **settings,
    )


def _hugging_face(address: str) -> str:
    """Turn ``hf://OWNER/REPO[@REVISION]/FILE`` or ``timm://MODEL.TAG`` into a URL."""
    base = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if address.startswith("timm://"):
        model = address.removeprefix("timm://")
        if not re.fullmatch(r"\w+\.\w+", model):
            raise CheckpointError(
                f"{address}: name model and tag, as timm://resnet50.a1_in1k; "
                "timm.list_pretrained() lists them"
            )
        return f"{base}/timm/{model}/resolve/main/model.safetensors"
    match = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+?))?/(.+)", address)
    if match is None:
        raise CheckpointError(f"{address}: write hf://OWNER/REPO/FILE or hf://OWNER/REPO@REV/FILE")
    return f"{base}/{match[1]}/resolve/{match[2] or 'main'}/{match[3]}"


def _of_mmengine(address: str) -> str:
    """Look a name up in mmengine's tables."""
    from mmengine.runner.checkpoint import get_external_models, get_torchvision_models

    scheme, name = address.split("://", 1)
    if scheme == "open-mmlab":
        table = get_external_models()
    elif importlib.util.find_spec("torchvision"):
        table = get_torchvision_models()
    else:  # it would add the names with a tag, as resnet50.imagenet1k_v2
        hub = Path(mmengine.__file__).parent / "hub" / "torchvision_0.12.json"
        table = json.loads(hub.read_text(encoding="utf-8"))
    if name not in table:
        near = difflib.get_close_matches(name, table, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise CheckpointError(f"mmengine's table of {scheme}:// has no {name}{hint}")
    return table[name]
