import shutil

import pytest
import torch
from mmdet.structures import DetDataSample

from mmpanoptic.models.fusion_heads.saved_instances import SavedInstanceFusionHead
from mmpanoptic.models.instance_heads.solov2 import SOLOv2Outputs
from mmpanoptic.models.postprocess.instance_files import (
    SavedInstances,
    check_unique,
    find_instance_files,
    instance_path,
    read_instances,
    write_instances,
)
from mmpanoptic.registry import MODELS

SIZE = (64, 96)
ORIGINAL = (75, 121)
CLASSES = ("car", "person")
FUSION = {
    "type": "AdaptiveLogitFusionHead",
    "num_classes": 5,
    "thing_labels": (3, 1),
    "score_thr": 0.1,
    "stuff_area": 4,
}
GRIDS = (12, 8, 8, 6, 4)
META = {"img_shape": (60, 96), "ori_shape": ORIGINAL}


def joint_model():
    """A small joint model whose random weights find instances."""
    torch.manual_seed(3)
    norm = {"type": "GN", "num_groups": 4}
    model = MODELS.build(
        {
            "type": "PanopticSegmentor",
            "backbone": {"type": "LeakyEfficientNet", "arch": "b0", "width_factor": 0.25},
            "neck": {
                "type": "TwoWayFPN",
                "in_channels": (8, 16, 32, 320),
                "out_channels": 16,
                "num_outs": 5,
            },
            "semantic_head": {
                "type": "EfficientPSHead",
                "num_classes": 5,
                "in_channels": 16,
                "channels": 8,
            },
            "instance_head": {
                "type": "SOLOv2Head",
                "num_classes": 2,
                "thing_labels": (3, 1),
                "in_channels": 16,
                "feat_channels": 16,
                "stacked_convs": 1,
                "mask_channels": 8,
                "kernel_channels": 8,
                "num_grids": GRIDS,
                "norm_cfg": norm,
            },
            "fusion_head": {
                "type": "SOLOv2FusionHead",
                "thing_labels": (3, 1),
                "num_grids": GRIDS,
                "fusion": FUSION,
            },
        }
    )
    head = model.instance_head
    torch.nn.init.normal_(head.conv_cls.weight, std=0.2)
    torch.nn.init.normal_(head.conv_kernel.weight, std=0.3)
    torch.nn.init.zeros_(head.conv_cls.bias)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return joint_model()


def images(count=3):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def samples(count=3):
    return [DetDataSample(metainfo={**META, "img_id": f"street/{n}"}) for n in range(count)]


@torch.no_grad()
def save(model, folder, logits=True, count=3):
    """Write the instances of all images, one by one."""
    for image, sample in zip(images(count), samples(count), strict=True):
        outputs = model.forward_heads(image[None]).instance
        found = model.fusion_head.select([part[0] for part in outputs], sample.metainfo)
        write_instances(
            folder,
            SavedInstances(
                sample.img_id,
                CLASSES,
                found.labels,
                found.scores,
                found.masks().to_full(),
                found if logits else None,
            ),
        )


@pytest.fixture(scope="module")
def template(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("template")
    save(model, folder)
    return folder


@pytest.fixture
def folder(template, tmp_path):
    """Saved instances that a test may spoil."""
    return shutil.copytree(template, tmp_path / "instances")


@pytest.fixture(scope="module")
def semantic(model):
    with torch.no_grad():
        return [model.semantic_head(model.extract_feat(image[None])) for image in images()]


@pytest.fixture(scope="module")
def together(model):
    return fuse_together(model)


def fuse_offline(semantic, folder, **options):
    head = SavedInstanceFusionHead(folder, CLASSES, FUSION, **options)
    pairs = zip(semantic, samples(), strict=True)
    return [head.predict(logits, None, [sample.metainfo])[0] for logits, sample in pairs]


@torch.no_grad()
def fuse_together(model):
    results = []
    for image, sample in zip(images(), samples(), strict=True):
        outputs = model.forward_heads(image[None])
        results += model.fusion_head.predict(*outputs, [sample.metainfo])
    return results


def same(first, second):
    a, b = first["pred_panoptic_seg"], second["pred_panoptic_seg"]
    return torch.equal(a.index_map, b.index_map) and a.segments_info == b.segments_info


def test_the_result_is_that_of_the_joint_model_bit_for_bit(semantic, together, folder):
    things = [s for one in together for s in one["pred_panoptic_seg"].segments_info if s["isthing"]]
    assert len(things) >= 3, "the test needs instances"
    assert all(map(same, together, fuse_offline(semantic, folder)))


def test_names_and_order_of_the_files_do_not_matter(semantic, together, folder):
    paths = sorted(folder.iterdir())
    for number, path in enumerate(paths):
        path.rename(folder / f"{len(paths) - number}.npz")
    assert all(map(same, together, fuse_offline(semantic, folder)))


@torch.no_grad()
def test_a_file_keeps_what_was_written(model, folder):
    saved = read_instances(instance_path(folder, "street/1"))
    outputs = model.forward_heads(images()[1:2]).instance
    found = model.fusion_head.select([part[0] for part in outputs], META)
    assert (saved.image_id, saved.classes) == ("street/1", CLASSES)
    assert torch.equal(saved.scores, found.scores)
    assert torch.equal(saved.labels, found.labels)
    assert torch.equal(saved.masks, found.masks().to_full())
    assert saved.masks.shape[1:] == ORIGINAL
    expected, kept = (grid.for_fusion(0.0).mask_logits for grid in (found, saved.grid))
    assert torch.equal(kept.windows, expected.windows)
    assert torch.equal(kept.values, expected.values)


def test_a_missing_image_is_an_error_unless_it_is_allowed(semantic, together, folder):
    instance_path(folder, "street/2").unlink()
    with pytest.raises(FileNotFoundError, match="no instances of the image 'street/2'"):
        fuse_offline(semantic, folder)
    results = fuse_offline(semantic, folder, missing="semantic")
    segments = results[2]["pred_panoptic_seg"].segments_info
    assert not any(segment["isthing"] for segment in segments)
    assert same(results[0], together[0])


def test_two_files_of_one_image_are_an_error(folder):
    shutil.copy(instance_path(folder, "street/0"), folder / "copy.npz")
    with pytest.raises(ValueError, match="both of the image 'street/0'"):
        find_instance_files(folder)


def test_ids_that_would_share_a_file_are_an_error():
    check_unique([1, 2, "a/b", "a%2Fb"])
    for ids in (["a", "b", "a"], [1, "1"], ["Street", "street"]):
        with pytest.raises(ValueError, match="would share the file"):
            check_unique(ids)


def test_an_image_of_another_size_is_an_error(folder):
    head = SavedInstanceFusionHead(folder, CLASSES, FUSION)
    meta = {"img_id": "street/0", "img_shape": SIZE, "ori_shape": (10, 12)}
    with pytest.raises(ValueError, match=r"\(75, 121\) pixels, the image has \(10, 12\)"):
        head.instances_of(meta, torch.device("cpu"))


def test_classes_are_matched_by_name(folder):
    head = SavedInstanceFusionHead(folder, ("bus", "person", "car"), FUSION)
    saved = read_instances(instance_path(folder, "street/0"))
    meta = {**META, "img_id": "street/0"}
    labels = head.instances_of(meta, torch.device("cpu")).labels
    expected = torch.tensor([2, 1])[saved.labels]
    assert labels.tolist() == expected[: len(labels)].tolist()
    with pytest.raises(ValueError, match="have the classes person, which are no things"):
        SavedInstanceFusionHead(folder, ("car",), FUSION).instances_of(meta, torch.device("cpu"))


def test_binary_masks_get_the_given_logit(model, semantic, tmp_path):
    save(model, tmp_path, logits=False)
    head = SavedInstanceFusionHead(tmp_path, CLASSES, FUSION, binary_logit=2.5)
    saved = read_instances(instance_path(tmp_path, "street/0"))
    assert saved.grid is None
    found = head.instances_of({**META, "img_id": "street/0"}, torch.device("cpu"))
    assert set(found.mask_logits.values.unique().tolist()) <= {-2.5, 2.5}
    assert torch.equal(found.mask_logits.above(0).to_full(), saved.masks)
    assert len(fuse_offline(semantic, tmp_path)) == 3


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved instances"):
        find_instance_files(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no file of saved instances"):
        find_instance_files(tmp_path)
    with pytest.raises(ValueError, match="missing must be one of"):
        SavedInstanceFusionHead(tmp_path, CLASSES, FUSION, missing="ignore")


@torch.no_grad()
def test_joint_predictions_over_a_mirrored_copy_are_close_to_those_of_the_image(model):
    size = {"img_shape": SIZE, "ori_shape": SIZE}
    metas = [size, {**size, "flip": True, "flip_direction": "horizontal"}]
    image = images(1)
    image = image + image.flip(-1)  # a symmetric image, whose mirror image predicts the same
    outputs = model.forward_heads(image)
    semantic, instance = outputs.semantic[0], SOLOv2Outputs(*(part[0] for part in outputs.instance))
    found = model.fusion_head.predict_augmented([semantic] * 2, [instance] * 2, metas)
    index_map = found["pred_panoptic_seg"].index_map[0]
    assert (index_map > 0).float().mean() > 0.5
    assert torch.equal(found["pred_sem_seg"].sem_seg, found["pred_sem_seg"].sem_seg.flip(-1))
