import copy

import numpy as np
import pytest
import torch
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper

from mmpanoptic.models.segmentors import HeadOutputs
from mmpanoptic.registry import MODELS
from tests.models.builders import NUM_CLASSES, make_batch, sample_from_ids, tiny_config

SIZES = ((48, 64), (40, 80))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MODELS.build(tiny_config(predict_instances=True))


def test_training_step_reaches_every_parameter(model):
    model.train()
    batch = model.data_preprocessor(make_batch(*SIZES), training=True)
    losses = model(**batch, mode="loss")
    assert losses.keys() == {"loss_semantic", "loss_center", "loss_offset"}
    model.parse_losses(losses)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_a_few_steps_lower_every_loss(model):
    model.init_weights()
    model.train()
    wrapper = OptimWrapper(torch.optim.Adam(model.parameters(), 3e-3))
    history = [model.train_step(make_batch(*SIZES), wrapper) for _ in range(25)]
    for name in ("loss_semantic", "loss_center", "loss_offset"):
        assert history[-1][name] < 0.9 * history[0][name]


def test_predictions_have_the_size_of_the_original_images(model):
    batch = make_batch(*SIZES)
    for sample, size in zip(batch["data_samples"], ((96, 128), (41, 79)), strict=True):
        sample.set_metainfo({"ori_shape": size})
    with torch.no_grad():
        samples = model.eval().val_step(batch)
    for sample in samples:
        shape = (1, *sample.ori_shape)
        assert sample.pred_panoptic_seg.index_map.shape == shape
        assert sample.pred_sem_seg.sem_seg.shape == shape
        assert sample.pred_sem_seg.sem_seg.max() < NUM_CLASSES
        count = len(sample.pred_panoptic_seg.segments_info)
        assert sample.pred_panoptic_seg.index_map.max() == count
        assert sample.pred_instances.masks.shape[1:] == sample.ori_shape


def test_a_batch_predicts_what_its_images_predict(model):
    model.eval()
    state = copy.deepcopy(model.state_dict())
    together = model.val_step(make_batch((48, 64), (48, 64)))
    for i, sample in enumerate(together):
        batch = make_batch((48, 64), (48, 64))
        single = {key: value[i : i + 1] for key, value in batch.items()}
        alone = model.val_step(single)[0]
        same = alone.pred_panoptic_seg.index_map == sample.pred_panoptic_seg.index_map
        assert same.float().mean() > 0.999
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_modes(model):
    x = torch.randn(2, 3, 48, 64)
    outputs = model.eval()(x)
    assert isinstance(outputs, HeadOutputs)
    assert outputs.semantic.shape == (2, NUM_CLASSES, 12, 16)
    assert outputs.instance.center.shape == (2, 1, 12, 16)
    assert outputs.instance.offset.shape == (2, 2, 12, 16)
    samples = model(x, mode="predict")
    assert samples[0].pred_panoptic_seg.index_map.shape == (1, 48, 64)
    with pytest.raises(ValueError, match="data_samples"):
        model(x, mode="loss")
    with pytest.raises(ValueError, match="mode"):
        model(x, mode="train")


def test_unlabelled_and_stuff_only_images_train(model):
    model.train()
    empty = sample_from_ids(np.zeros((48, 64), np.int32), [])
    stuff = sample_from_ids(
        np.full((48, 64), 3, np.int32), [{"id": 3, "category_id": 1, "iscrowd": 0}]
    )
    images = [torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8) for _ in range(2)]
    for samples in ([empty, empty], [empty, stuff]):
        batch = model.data_preprocessor({"inputs": images, "data_samples": samples}, True)
        losses = model(**batch, mode="loss")
        sum(losses.values()).backward()
        labelled = stuff in samples
        # Without an instance the heatmap is to be zero wherever there is a label.
        assert [name for name, value in losses.items() if value > 0] == (
            ["loss_semantic", "loss_center"] if labelled else []
        )
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_bfloat16_training_step_has_the_losses_of_float32(model):
    model.train()
    wrapper = OptimWrapper(torch.optim.Adam(model.parameters()))
    batch = make_batch(*SIZES)
    prepared = model.data_preprocessor(copy.deepcopy(batch), training=True)
    expected = {name: loss.item() for name, loss in model(**prepared, mode="loss").items()}
    with torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 3, 48, 64)).semantic.dtype == torch.bfloat16
        logs = model.train_step(batch, wrapper)
    assert {name: logs[name].item() for name in expected} == pytest.approx(expected, rel=0.2)
    assert all(p.isfinite().all() for p in model.parameters())


def test_channels_last_gives_the_same_outputs(model):
    x = torch.randn(2, 3, 48, 64)
    model.eval()
    turned = MODELS.build({**tiny_config(), "channels_last": True}).eval()
    turned.load_state_dict(model.state_dict())
    kernel = turned.backbone.layer1[0].conv1.weight
    assert kernel.is_contiguous(memory_format=torch.channels_last)
    assert not kernel.is_contiguous()
    with torch.no_grad():
        expected = model.forward_heads(x)
        actual = turned.forward_heads(x)
        assert turned.extract_feat(x)[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(actual.semantic, expected.semantic, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(actual.instance, expected.instance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_the_network_compiles_once_and_in_one_piece(model, training):
    torch._dynamo.reset()
    model.train(training)
    compiled = torch.compile(model.forward_heads, backend="eager", fullgraph=True)
    counters = torch._dynamo.utils.counters
    counters.clear()
    with torch.no_grad():
        for seed in range(2):
            torch.manual_seed(seed)
            x = torch.randn(2, 3, 48, 64)
            actual = compiled(x)
            if not training:  # in training the running statistics have moved on
                expected = model.forward_heads(x)
                torch.testing.assert_close(actual.semantic, expected.semantic)
    assert not counters["graph_break"]
    assert counters["stats"]["unique_graphs"] == 1
    torch._dynamo.reset()


def test_the_network_exports_without_data_dependence(model):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return tuple(self.model.forward_heads(x).instance)

    x = torch.randn(1, 3, 48, 64)
    network = Network().eval()
    exported = torch.export.export(network, (x,)).module()
    torch.testing.assert_close(exported(x), network(x))


def test_padded_inputs_give_results_of_the_image_size(model):
    model.eval()
    batch = make_batch((48, 64))
    model.data_preprocessor.pad_size_divisor = 1
    plain = model.val_step(batch)[0]
    assert plain.pred_panoptic_seg.index_map.shape == (1, 48, 64)
    model.data_preprocessor.pad_size_divisor = 128
    padded = model.val_step(make_batch((48, 64)))[0]
    assert padded.batch_input_shape == (128, 128)
    assert padded.pred_panoptic_seg.index_map.shape == (1, 48, 64)


def test_parts_are_optional():
    config = tiny_config()
    config["instance_head"] = config["fusion_head"] = None
    config["neck"] = {"type": "FirstLevelTwice"}
    config["semantic_head"].update(
        in_channels=(8, 8), in_strides=(4, 4), project_channels=(4,), small_instance_area=0
    )
    model = MODELS.build(config).train()
    batch = model.data_preprocessor(make_batch(*SIZES), training=True)
    assert model(**batch, mode="loss").keys() == {"loss_semantic"}
    assert model(batch["inputs"]).instance is None
    with pytest.raises(ValueError, match="fusion_head"):
        model(batch["inputs"], mode="predict")
    config["semantic_head"] = None
    with pytest.raises(ValueError, match="semantic_head"):
        MODELS.build(config)


@MODELS.register_module(force=True)
class FirstLevelTwice(BaseModule):
    def forward(self, feats):
        return feats[0], feats[0]


def test_two_losses_of_one_name_are_refused(model):
    model.instance_head.loss_by_feat = lambda *_: {"loss_semantic": torch.zeros(())}
    batch = model.data_preprocessor(make_batch(*SIZES), training=True)
    with pytest.raises(ValueError, match="loss_semantic"):
        model(**batch, mode="loss")


def test_a_backbone_of_mmsegmentation_serves_by_config():
    config = tiny_config()
    config["backbone"] = {
        "type": "mmseg.MixVisionTransformer",
        "embed_dims": 8,
        "num_heads": [1] * 4,
        "num_layers": [1] * 4,
    }
    levels = {"in_channels": [8] * 4, "in_strides": (4, 8, 16, 32), "project_channels": (8, 8, 8)}
    for head in ("semantic_head", "instance_head"):
        config[head].update(levels)
    model = MODELS.build(config)
    model.init_weights()
    batch = model.data_preprocessor(make_batch(*SIZES), training=True)
    model.parse_losses(model(**batch, mode="loss"))[0].backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    predicted = model.eval()(batch["inputs"], batch["data_samples"], mode="predict")
    assert predicted[0].pred_panoptic_seg.index_map.shape == (1, *SIZES[0])
