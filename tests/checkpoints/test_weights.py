"""The manifest of published weights, and the addresses that name a file."""

import re
from pathlib import Path

import pytest
import yaml
from mmengine.config import Config

from mmpanoptic.apis import list_configs
from mmpanoptic.checkpoints import CheckpointError
from mmpanoptic.checkpoints.published import KEY_MAPS
from mmpanoptic.checkpoints.weights import (
    MANIFEST,
    SCHEME,
    addresses_in,
    is_address,
    locate,
    manifest,
    published,
    remote_file,
)
from mmpanoptic.engine.config import resolve_variables

ROOT = Path(__file__).parents[2]
ENTRIES = [pytest.param(entry, id=entry.id) for entry in manifest().values()]
LEAVES = [path for path in ROOT.glob("configs/*/*.py") if path.read_text().startswith('"""')]
REAL = [pytest.param(path, id=path.stem) for path in LEAVES if "_shapes" not in path.stem]
FROM_NOTHING = r"_imagenet$"  # they are what the others start from
OWN_DATA = r"_own(-|$)"


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    monkeypatch.setenv("MMPANOPTIC_HOME", str(tmp_path))


@pytest.mark.parametrize("entry", ENTRIES)
def test_entries_are_complete(entry):
    assert re.fullmatch(r"[a-z0-9-]+/[a-z0-9._-]+", entry.id)
    assert all(url.startswith("https://") for url in (*entry.url, entry.page))
    assert entry.converter in KEY_MAPS
    assert entry.licence
    assert entry.format in ("torch", "safetensors", "detectron2 pickle", "Detectron pickle")
    for value, lengths in ((entry.sha256, range(8, 65)), (entry.md5, range(6, 33))):
        assert value is None or (re.fullmatch("[0-9a-f]+", value) and len(value) in lengths)
    digits = re.search(r"-([0-9a-f]{8})\.pth$", entry.file)
    if digits and "no proven hash" not in (entry.note or "") and "270e81cf" not in entry.file:
        assert entry.sha256.startswith(digits[1])
    if not entry.url:
        assert entry.by_hand.startswith("https://")
        assert entry.instead
        for other in entry.instead:
            assert not other.startswith(SCHEME) or published(other).url
    assert entry.config is None or entry.config in list_configs()


def test_files_of_different_entries_do_not_collide():
    paths = [entry.remote.path for entry in manifest().values()]
    assert len(set(paths)) == len(paths)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": "red"}, "has unknown fields: colour"),
        ({"input": "none"}, "needs input, one of"),
        ({"by_hand": "https://page"}, "needs either url or by_hand"),
    ],
)
def test_wrong_entries_are_named(monkeypatch, tmp_path, change, message):
    content = yaml.safe_load(MANIFEST.read_text())
    content["groups"][0]["weights"]["imagenet/resnet18"].update(change)
    (tmp_path / "weights.yml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr("mmpanoptic.checkpoints.weights.MANIFEST", tmp_path / "weights.yml")
    with pytest.raises(ValueError, match=message):
        manifest.__wrapped__()


@pytest.mark.parametrize("path", REAL)
def test_configs_start_from_an_id_or_a_stage_of_ours(path):
    cfg = resolve_variables(Config.fromfile(path))
    found = addresses_in(cfg)
    for address in found:
        if address.startswith("timm://"):
            assert remote_file(address)
        elif address.startswith("work_dirs/"):
            stage = Path(address).parent.name
            assert stage in list_configs()
        else:
            assert published(address)
    if not re.search(FROM_NOTHING, path.stem) and not re.search(OWN_DATA, path.stem):
        assert found or cfg.model.get("pretrained")  # guests: a name of their library's hub


def test_unknown_ids_get_a_suggestion():
    with pytest.raises(CheckpointError, match="imagenet/resnet52; did you mean"):
        remote_file("mmpanoptic://imagenet/resnet52")


def test_files_that_no_server_gives_are_explained():
    with pytest.raises(CheckpointError) as caught:
        locate("mmpanoptic://imagenet/hrnet-w48-original")
    message = str(caught.value)
    for part in (
        "1drv.ms",
        "published at https://github.com/HRNet/HRNet-Image-Classification",
        "hrnetv2_w48_imagenet_pretrained.pth",
        "mmpanoptic://imagenet/hrnet-w48, mmpanoptic://imagenet/hrnet-w48-timm",
        "mmpanoptic://imagenet/hrnet-w48-mmpretrain",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("address", "url", "sha256"),
    [
        (
            "timm://resnet50.a1_in1k",
            "https://huggingface.co/timm/resnet50.a1_in1k/resolve/main/model.safetensors",
            None,
        ),
        (
            "hf://owner/the-repo/sub/file.pth",
            "https://huggingface.co/owner/the-repo/resolve/main/sub/file.pth",
            None,
        ),
        (
            "hf://owner/repo@v1.0/file-0123abcd.pth",
            "https://huggingface.co/owner/repo/resolve/v1.0/file-0123abcd.pth",
            "0123abcd",
        ),
        (
            "torchvision://resnet18",
            "https://download.pytorch.org/models/resnet18-f37072fd.pth",
            "f37072fd",
        ),
        (
            "open-mmlab://msra/hrnetv2_w48",
            "https://download.openmmlab.com/pretrain/third_party/hrnetv2_w48-d2186c55.pth",
            "d2186c55",
        ),
        ("https://a.org/x/model-20220512.pth", "https://a.org/x/model-20220512.pth", None),
    ],
)
def test_addresses_name_files(address, url, sha256):
    remote = remote_file(address)
    assert (remote.urls, remote.sha256) == ((url,), sha256)


def test_another_endpoint_of_hugging_face(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.org/")
    assert remote_file("hf://a/b/c.pth").urls == ("https://mirror.org/a/b/resolve/main/c.pth",)


def test_equal_names_elsewhere_lie_apart():
    places = {
        remote_file(address).path
        for address in (
            "https://a.org/1/model_final.pkl",
            "https://a.org/2/model_final.pkl",
            "https://b.org/1/model_final.pkl",
            "https://a.org/1/model_final.pkl?dl=1",
        )
    }
    assert len(places) == 4
    assert all(place.suffix == ".pkl" for place in places)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://a.org/m-0123456789.pth", "only https:// addresses are"),
        ("timm://resnet50", "name model and tag"),
        ("hf://repo/file", "write hf://OWNER/REPO/FILE"),
        ("torchvision://resnet5", "has no resnet5; did you mean resnet50"),
        ("https://a.org/../../x.pth", "names no file"),
        ("https://a.org/", "names no file"),
    ],
)
def test_wrong_addresses_are_explained(address, message):
    with pytest.raises(CheckpointError, match=message):
        remote_file(address)


def test_unknown_schemes_are_refused_and_paths_are_none():
    with pytest.raises(CheckpointError, match="begin with detectron2:// are not known"):
        is_address("detectron2://DeepLab/R-52.pkl")
    assert not is_address("C:/weights/x.pth")
    assert not is_address("work_dirs/x.pth")
