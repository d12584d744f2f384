import numpy as np
import pytest

from mmpanoptic.evaluation.panoptic_errors import KINDS
from mmpanoptic.evaluation.panoptic_quality import ImageMatch, accumulate, summarize
from mmpanoptic.evaluation.panoptic_report import compare, report_files
from mmpanoptic.evaluation.resampling import class_counts, interval, quality_of_counts, resample
from mmpanoptic.evaluation.score_analysis import ScoredSegments, best_threshold, calibrate
from mmpanoptic.utils import write_json
from mmpanoptic.utils.panoptic_png import encode_panoptic_png

from .test_panoptic_errors import CATEGORIES, scene

ISTHING = CATEGORIES.isthing


def write_pair(folder, scenes, scores=None, name="pred"):
    """Ground truth and predictions of one-row images; scores by seed and segment."""
    for part in ("gt", name):
        (folder / part).mkdir(parents=True, exist_ok=True)
    gt, pred = [], []
    for k, (truth, found, truth_classes, found_classes) in enumerate(scenes):
        for part, row in (("gt", truth), (name, found)):
            (folder / part / f"{k}.png").write_bytes(encode_panoptic_png(np.array([row])))
        info = [
            {"id": i, "category_id": c, "iscrowd": 0, "area": int((truth == i).sum())}
            for i, c in truth_classes.items()
        ]
        gt.append({"image_id": k, "file_name": f"{k}.png", "segments_info": info})
        info = [{"id": i, "category_id": c} for i, c in found_classes.items()]
        for segment in info if scores else ():
            segment["score"] = scores(k, segment["id"])
        pred.append({"image_id": k, "file_name": f"{k}.png", "segments_info": info})
    categories = [
        {"id": i, "name": n, "isthing": int(t)}
        for i, n, t in zip(CATEGORIES.ids, CATEGORIES.names, ISTHING, strict=True)
    ]
    images = [{"id": k, "file_name": f"{k}.jpg", "height": 1, "width": 9} for k in range(len(gt))]
    content = {"images": images, "annotations": gt, "categories": categories}
    write_json(folder / "gt.json", content)
    write_json(folder / f"{name}.json", {"annotations": pred})
    return folder / "gt.json", folder / f"{name}.json"


def score(image, segment):
    # No true segment has the ids from 12 on, which come last when thresholds fall.
    return 0.1 if segment >= 12 else 0.3 + (7 * image + 13 * segment) % 50 / 80


@pytest.fixture(scope="module")
def scenes():
    return [scene(seed) for seed in range(30)]


@pytest.fixture(scope="module")
def report(scenes, tmp_path_factory):
    return report_files(*write_pair(tmp_path_factory.mktemp("pair"), scenes, score), workers=1)


@pytest.fixture(scope="module")
def figures(report):
    return report.to_dict(samples=50)


def test_shares_of_lost_pq_add_up(figures):
    for name, group in figures["quality"]["groups"].items():
        lost = [kind["lost"][name] for kind in figures["errors"]["kinds"].values()]
        assert sum(lost) == pytest.approx(1 - group["pq"], abs=1e-12)
    for c, row in enumerate(figures["quality"]["classes"]):
        lost = [kind["classes"][c]["lost"] for kind in figures["errors"]["kinds"].values()]
        assert sum(lost) == pytest.approx(1 - row["pq"], abs=1e-12)


def test_losses_of_images_add_up_to_the_lost_pq(figures):
    assert sum(figures["loss"]) == pytest.approx(1 - figures["quality"]["groups"]["All"]["pq"])


def test_every_false_segment_is_in_one_kind(figures, report):
    kinds = figures["errors"]["kinds"]
    assert list(kinds) == list(KINDS)
    totals = report.counts.sum((0, 1))
    assert sum(kind["fp"] for kind in kinds.values()) == totals[2]
    assert sum(kind["fn"] for kind in kinds.values()) == totals[3]
    assert all(kinds[k]["fp"] + kinds[k]["fn"] > 0 for k in ("split", "merged", "void", "invented"))


def test_sizes_and_crowding_divide_all_segments(figures, report):
    totals = report.counts.sum((0, 1))[1:].astype(int).tolist()
    for part in ("size", "crowding"):
        rows = figures[part]
        assert len(rows) > 1
        assert [sum(row[k] for row in rows) for k in ("tp", "fp", "fn")] == totals
    assert sum(row["images"] for row in figures["crowding"]) == 30


def test_quality_in_a_bin_by_hand(tmp_path):
    row = np.repeat([1, 2, 3], [2, 4, 10])
    found = np.repeat([1, 0, 3], [2, 4, 10])
    pair = write_pair(tmp_path, [(row, found, {1: 1, 2: 1, 3: 1}, {1: 1, 3: 1})])
    small, large = report_files(*pair).by_size(2, 10)
    assert (small["low"], small["high"], large["high"]) == (2, 4, 10)
    # The edge itself belongs to the upper bin: 2 | 4, 10.
    assert [small[k] for k in ("tp", "fp", "fn")] == [1, 0, 0]
    assert [large[k] for k in ("tp", "fp", "fn")] == [1, 0, 1]
    assert large["groups"]["Things"]["pq"] == pytest.approx(1 / 1.5)


def test_confusion_by_hand(tmp_path):
    truth = np.repeat([1, 2, 3, 0], [6, 4, 8, 2])
    found = np.repeat([1, 3, 4, 0, 5], [6, 4, 5, 3, 2])
    classes = {1: 1, 2: 1, 3: 9}
    pair = write_pair(tmp_path, [(truth, found, classes, {1: 1, 3: 2, 4: 9, 5: 2})])
    confusion = report_files(*pair).confusion()
    assert confusion["names"] == ["cell", "dot", "ground", "(nothing)"]
    assert confusion["pixels"] == [[6, 4, 0, 0], [0, 0, 0, 0], [0, 0, 5, 3], [0, 0, 0, 0]]
    # The last prediction lies on void and counts nowhere.
    assert confusion["segments"] == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_segments_without_a_partner_stand_in_the_row_or_column_of_nothing(figures, report):
    table = np.array(figures["confusion"]["segments"])
    totals = report.counts.sum(0)
    wrong = np.array([kind["fn"] for kind in figures["errors"]["kinds"].values()])
    assert np.array_equal(np.diag(table)[:3], totals[:, 1])
    assert table[:3].sum() == totals[:, 1].sum() + totals[:, 3].sum()
    assert table[:3, 3].sum() + (table[:3, :3].sum() - np.trace(table)) == wrong.sum()


def test_quality_equals_the_evaluators(report):
    values, groups, number = quality_of_counts(report.counts.sum(0), ISTHING)
    averages = report.result.quality.averages
    for k, name in enumerate(("All", "Things", "Stuff")):
        expected = [averages[name][m] for m in ("pq", "sq", "rq")]
        assert groups[k] == pytest.approx(expected, abs=1e-12)
        assert number[k] == averages[name]["n"]
    for row, expected in zip(values, report.result.quality.per_class.values(), strict=True):
        assert row == pytest.approx(list(expected.values()), abs=1e-12)


def test_resampling_counts_again_what_a_loop_over_images_counts(report):
    matches = [match for _, _, match in report.result.images]
    drawn = resample(report.counts, ISTHING, samples=20, seed=3)
    times = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30), 20)
    for row, value in zip(times, drawn.groups, strict=True):
        chosen = [match for match, n in zip(matches, row, strict=True) for _ in range(n)]
        expected = summarize(accumulate(chosen, 3), CATEGORIES).averages
        got = [expected[name][m] for name in ("All", "Things", "Stuff") for m in ("pq", "sq", "rq")]
        assert value.ravel() == pytest.approx(got, abs=1e-12)


def test_an_interval_of_equal_images_is_a_point_and_of_none_is_unknown():
    match = ImageMatch(np.array([0]), np.array([0.75]), np.array([0]), np.array([], np.int64))
    counts = class_counts([match] * 5, 2)
    assert counts[0].tolist() == [[0.75, 1, 1, 0], [0, 0, 0, 0]]
    drawn = resample(counts, [True, False], 30)
    assert interval(drawn.groups[:, 0, 0]) == pytest.approx([0.5, 0.5])
    assert interval(drawn.groups[:, 2, 0]) == [None, None]
    assert interval(np.arange(101.0)) == pytest.approx([2.5, 97.5])


def test_two_runs_are_compared_on_the_same_draws(report, scenes, tmp_path):
    same = compare(report, report, 40)
    assert same["groups"]["All"]["difference"] == 0
    assert same["groups"]["All"]["interval"] == [0, 0]
    perfect = [(truth, truth, classes, classes) for truth, _, classes, _ in scenes]
    other = report_files(*write_pair(tmp_path / "b", perfect))
    better = compare(report, other, 40)["groups"]["All"]
    own = report.result.quality.averages["All"]["pq"]
    assert better["difference"] == pytest.approx(1 - own)
    low, high = better["interval"]
    assert 0 < low < better["difference"] < high < 1
    fewer = report_files(*write_pair(tmp_path / "c", perfect[:3]))
    with pytest.raises(ValueError, match="same images"):
        compare(report, fewer)


def test_calibration_by_hand():
    segments = ScoredSegments(
        np.zeros(5, int), np.zeros(5, int), np.array([0.95, 0.91, 0.55, 0.51, 1.0]),
        np.array([0.8, 0, 0.6, 0.7, 0.9]),
    )  # fmt: skip
    found = calibrate(segments)
    last, sixth = found["bins"][9], found["bins"][5]
    assert (last["n"], sixth["n"], found["n"]) == (3, 2, 5)
    assert last["score"] == pytest.approx(2.86 / 3)
    assert last["right"] == pytest.approx(2 / 3)
    assert sixth["right"] == 1
    assert found["error"] == pytest.approx((2.86 - 2 + 2 - 1.06) / 5)
    assert found["bins"][0]["score"] is None
    nothing = ScoredSegments(*(np.zeros(0, int) for _ in range(4)))
    assert calibrate(nothing)["error"] is None
    assert best_threshold(nothing, np.zeros((4, 1, 4)), [True]) is None


def test_a_threshold_gives_what_leaving_the_segments_out_gives(report, scenes, tmp_path):
    found = best_threshold(report.scored, report.counts, ISTHING)
    assert found["images"] == [15, 15]
    threshold = found["threshold"]
    kept = []
    for k, (truth, drawn, classes, found_classes) in enumerate(scenes):
        gone = [i for i, c in found_classes.items() if c != 9 and score(k, i) < threshold]
        left = {i: c for i, c in found_classes.items() if i not in gone}
        kept.append((truth, np.where(np.isin(drawn, gone), 0, drawn), classes, left))
    again = report_files(*write_pair(tmp_path, kept))
    half = np.zeros(30, int)
    half[np.random.default_rng(0).permutation(30)[15:]] = 1
    for k in (0, 1):
        for part, counts in (("before", report.counts), ("after", again.counts)):
            value = quality_of_counts(counts[half == k].sum(0), ISTHING)[1][0, 0]
            assert found[part][k] == pytest.approx(value, abs=1e-12)
    assert found["after"][0] == max(row[1] for row in found["curve"]) > found["before"][0]


def test_suspected_label_errors_are_confident_predictions_against_the_truth(tmp_path):
    truth = np.repeat([1, 2, 3, 4], [6, 4, 8, 5])
    found = np.repeat([1, 2, 5, 3, 4], [6, 4, 2, 6, 5])
    classes = {1: 1, 2: 1, 3: 9, 4: 2}
    scores = {1: 0.99, 2: 0.9, 5: 0.95, 3: 1.0, 4: 0.3}
    pair = write_pair(
        tmp_path, [(truth, found, classes, {1: 1, 2: 2, 5: 1, 3: 9, 4: 1})], lambda _, i: scores[i]
    )
    first, second = report_files(*pair).suspects()
    assert first["reason"] == "not annotated"
    assert (first["segment_id"], first["predicted"], first["annotated"]) == (5, "cell", None)
    assert second["reason"] == "another class"
    assert (second["predicted"], second["annotated"], second["annotated_id"]) == ("dot", "cell", 2)
    assert (second["score"], second["area"], second["image_id"]) == (0.9, 4, 0)
    assert len(report_files(*pair).suspects(sure=0.2)) == 3


def test_nothing_to_report_is_named(tmp_path):
    pair = write_pair(tmp_path, [])
    with (
        pytest.warns(UserWarning, match="no annotations"),
        pytest.raises(ValueError, match="nothing to report"),
    ):
        report_files(*pair)
