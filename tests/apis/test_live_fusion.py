import numpy as np
import pytest
import torch

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.apis.inferencer import iter_sources
from mmpanoptic.apis.live_fusion import LiveFusion, count_bytes, find_settings, move_outputs
from mmpanoptic.models.layers import PairQuery
from mmpanoptic.structures import BoxedMasks
from tests.serving.running import cells

from .tiny_model import CONFIG

SYSTEMS = {
    CONFIG: {"threshold", "top_k", "stuff_area"},
    "cops_r18-tiny_e2e_1xb8-200_shapes": {"stuff_area", "instance_area", "ignore_area"},
    "efficientps-solov2_b0-tiny_1xb8-600_shapes": {
        *("score_thr", "mask_thr", "filter_thr", "nms_pre", "max_per_img"),
        *("fusion.score_thr", "fusion.overlap_thr", "fusion.stuff_area"),
    },
    "efficientps-maskrcnn_b0-tiny_1xb8-600_shapes": {"score_thr", "overlap_thr", "stuff_area"},
    "rap_r18-tiny_relation-finetune_1xb8-2k_shapes": {
        *("score_thr", "overlap_thr", "large_overlap_thr", "stuff_area", "min_visible"),
    },
    "auto-panoptic_tiny_1xb8-500_shapes": {
        *("score_thr", "overlap_thr", "area_order_thr", "stuff_area", "min_visible"),
    },
    "deeplabv3plus_r18-tiny_1xb8-1k_shapes": set(),
    "eomt_tiny_1xb8-1k_shapes": {"score_thr", "mask_thr", "overlap_thr"},
}
IMAGE = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize("config", SYSTEMS)
def test_every_system_fuses_again_as_a_model_with_these_settings_would(config):
    if config.startswith("eomt"):
        pytest.importorskip("transformers")
    if config.startswith("cops"):
        from mmpanoptic.ops import amwc

        if not amwc.is_available():
            pytest.skip("the solver is not built")
    torch.manual_seed(0)
    inferencer = PanopticInferencer(config, device="cpu")
    live = LiveFusion(inferencer)
    assert set(live.settings) == SYSTEMS[config] | {"min_score"}
    assert all(one.meaning and "`" not in one.meaning for one in live.settings.values())
    kept = live.run(next(iter_sources(IMAGE)))
    assert kept.nbytes > IMAGE.nbytes
    plain = inferencer(IMAGE)[0]
    for setting in live.settings.values():
        for value in (setting.low, setting.high):
            live.fuse(kept, {setting.name: value})
    again = live.fuse(kept)  # nothing above has changed what is kept
    assert (again.panoptic_seg == plain.panoptic_seg).all()
    assert again.segments_info == plain.segments_info
    if "score_thr" in live.settings:
        options = {"model.fusion_head.score_thr": 0.0}
        if config.startswith("eomt"):
            options = {"model.fusion_head": {"score_thr": 0.0}}
        torch.manual_seed(0)
        other = PanopticInferencer(config, device="cpu", cfg_options=options)(IMAGE)[0]
        again = live.fuse(kept, {"score_thr": 0.0})
        assert (again.panoptic_seg == other.panoptic_seg).all()


@pytest.fixture(scope="module")
def live():
    return LiveFusion(PanopticInferencer("nuclei", device="cpu"))


def test_things_of_low_scores_are_left_out(live):
    kept = live.run(next(iter_sources(cells())))
    everything = live.fuse(kept)
    scores = [s.score for s in everything.segments if s.isthing]
    least = round(sorted(scores)[len(scores) // 2], 2)
    some = live.fuse(kept, {"min_score": least})
    assert sum(s.isthing for s in some.segments) == sum(score >= least for score in scores)
    assert len(some.segments) < len(everything.segments)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nonsense": 1}, "unknown setting nonsense; this model has min_score, "),
        ({"threshold": 1.5}, "threshold must be a number from 0.0 to 1.0"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"top_k": 2.5}, "top_k must be a whole number from 1 to"),
        ({"stuff_area": -1.0}, "stuff_area must be a whole number from 0 to"),
    ],
)
def test_wrong_settings_are_named(live, values, message):
    with pytest.raises(ValueError, match=message):
        live.check(values)


def test_only_what_differs_builds_another_head(live):
    assert live.check({"threshold": 0.1, "top_k": 5.0}) == {"top_k": 5}
    assert live._build_head({"top_k": 5}).top_k == 5
    assert live.inferencer.model.fusion_head.top_k != 5


def test_an_option_that_does_nothing_is_no_setting():
    head = {"type": "HeuristicFusionHead", "thing_labels": (0,), "stuff_labels": (1,)}
    assert "area_order_thr" not in {one.name for one in find_settings(head)}
    assert "area_order_thr" in {one.name for one in find_settings({**head, "order": "area"})}


def test_a_head_that_reads_files_is_refused(live):
    class Inferencer:
        model = type("", (), {"fusion_cfg": {"type": "SavedInstanceFusionHead"}})()

    with pytest.raises(ValueError, match="take the joint model"):
        LiveFusion(Inferencer())


def test_outputs_are_copied_and_counted():
    masks = BoxedMasks(torch.tensor([[0, 0, 2, 1]]), torch.ones(2), (4, 4))
    outputs = {"a": (torch.zeros(3), [masks]), "b": PairQuery(torch.zeros(2, 5), torch.nn.ReLU())}
    assert count_bytes(outputs) == 4 * (3 + 2 + 10) + 8 * 4
    copy = move_outputs(outputs, torch.device("cpu"))
    copy["a"][0].fill_(1)
    copy["a"][1][0].values.zero_()
    assert outputs["a"][0].sum() == 0
    assert masks.values.sum() == 2


def test_things_of_scores_below_0_stay_where_nothing_is_left_out(live):
    image = cells(height=64, width=96)
    plain = live.inferencer(image)[0]
    again = live.fuse(live.run(next(iter_sources(image))))
    assert again.segments_info == plain.segments_info
    assert min(plain.scores) < 0
