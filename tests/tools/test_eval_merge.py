"""Parts of an evaluation add up to the bits of the whole, whatever the split."""

import json
import random

import numpy as np
import pytest

from mmpanoptic.utils.label_png import write_label_png
from tests.golden import golden_dir

GOLDEN = golden_dir("evaluation")
PANOPTIC = GOLDEN / "coco_random"
AP = GOLDEN / "coco_ap"


@pytest.fixture
def folder(run_tool):
    return run_tool.folder


@pytest.fixture
def run(run_tool):
    return lambda name, *arguments, status=0: run_tool(
        f"analysis_tools/{name}.py", *arguments, status=status
    )


def load(path):
    return json.loads(path.read_text())


def write_maps(folder, count=7):
    """Write label maps with ids that begin alike, and pixels without a class."""
    random_state = np.random.default_rng(0)
    for kind in ("gt", "pr"):
        for number in range(count):
            labels = random_state.choice([0, 1, 2, 255], (9, 8)).astype(np.uint8)
            write_label_png(folder / kind / f"a{'_1' * number}.png", labels)


def commands(folder):
    """Give the command of each kind: name, arguments, ids of the ground truth."""
    files = ["--gt_json_file", PANOPTIC / "gt.json", "--pred_json_file", PANOPTIC / "pred.json"]
    panoptic = [a["image_id"] for a in load(PANOPTIC / "gt.json")["annotations"]]
    write_maps(folder)
    miou = [f"a{'_1' * number}" for number in range(7)]
    truth, found = AP / "instances_val2014_100.json", "instances_val2014_fakesegm100_results.json"
    boxes = sorted(image["id"] for image in load(truth)["images"])
    return {
        "eval_panoptic": (files, panoptic),
        "eval_miou": (["gt", "pr", "--num-classes", 3, "--nproc", 1], miou),
        "eval_coco_ap": ([truth, AP / found, "--iou-type", "segm"], boxes),
    }


@pytest.mark.parametrize("name", ["eval_panoptic", "eval_miou", "eval_coco_ap"])
def test_any_split_gives_the_bits_of_the_whole(run, folder, name):
    arguments, ids = commands(folder)[name]
    run(name, *arguments, "--json", "whole.json")
    for number in (1, 2, 3):
        run(name, *arguments, "--part", f"{number}/3", "--save-part", f"{number}.json")
    run("eval_merge", "3.json", "1.json", "2.json", "--json", "stretches.json")
    assert (folder / "stretches.json").read_text() == (folder / "whole.json").read_text()

    shuffled = random.Random(1).sample(ids, len(ids))
    for number in range(2):
        chosen = shuffled[number::2]
        (folder / f"ids{number}.txt").write_text("\n".join(map(str, chosen)))
        run(name, *arguments, "--part", f"ids{number}.txt", "--save-part", f"list{number}.json")
    run("eval_merge", "list1.json", "list0.json", "--json", "lists.json")
    assert (folder / "lists.json").read_text() == (folder / "whole.json").read_text()


def test_more_parts_than_images_and_one_part_of_all(run, folder):
    arguments, ids = commands(folder)["eval_miou"]
    run("eval_miou", *arguments, "--json", "whole.json", "--save-part", "all.json")
    run("eval_merge", "all.json", "--json", "again.json")
    assert (folder / "again.json").read_text() == (folder / "whole.json").read_text()
    count = 2 * len(ids)
    for number in range(1, count + 1):
        done = run("eval_miou", *arguments, "--part", f"{number}/{count}", "--save-part", "p.json")
        assert f"part {number}/{count}: {number % 2 == 0:d} of 7 images" in done.stdout
        (folder / "p.json").rename(folder / f"p{number}.json")
    run("eval_merge", *(f"p{n}.json" for n in range(1, count + 1)), "--json", "parts.json")
    assert (folder / "parts.json").read_text() == (folder / "whole.json").read_text()


def change(path, **fields):
    content = load(path)
    content["whole"].update(fields)
    path.write_text(json.dumps(content))


def test_what_does_not_fit_together_is_refused(run, folder):
    arguments, _ = commands(folder)["eval_panoptic"]
    for number in (1, 2, 3):
        run("eval_panoptic", *arguments, "--part", f"{number}/3", "--save-part", f"{number}.json")
    run("eval_panoptic", *arguments, "--part", "2/2", "--save-part", "half.json")

    def error(*words, status=1):
        return run("eval_merge", *words, status=status).stderr

    assert "is in 2.json and in half.json; it would count twice" in error("2.json", "half.json")
    absent = "images are in no part, by their place in the ground truth: "
    assert absent in error("1.json", "3.json")
    done = run("eval_merge", "1.json", "3.json", "--incomplete")
    total = len(load(PANOPTIC / "gt.json")["annotations"])
    assert f"of {total} images, panoptic" in done.stdout
    assert "1.json is given twice" in error("1.json", "1.json", status=2)
    assert "--definition is of mIoU" in error(
        *(f"{n}.json" for n in (1, 2, 3)), "--definition", "mmseg", status=2
    )
    change(folder / "2.json", settings={"parity": True})
    assert "2.json is no part of the same evaluation as 1.json: they differ in settings" in error(
        "1.json", "2.json", "3.json"
    )
    (folder / "other.json").write_text("[]")
    assert "other.json is no part of an evaluation; eval_panoptic" in error("other.json")


@pytest.mark.parametrize(
    ("part", "status", "message"),
    [
        ("3/2", 2, "part 3/2: K/N needs 1 <= K <= N"),
        ("0/2", 2, "part 0/2: K/N needs 1 <= K <= N"),
        ("half", 2, "part half: give K/N, such as 2/8, or a text file with one image id per line"),
        ("twice.txt", 2, "twice.txt lists 1 twice; it needs one image id per line"),
        ("empty.txt", 2, "empty.txt names no image"),
        ("unknown.txt", 1, "unknown.txt lists nowhere, which the ground truth lacks"),
    ],
)
def test_wrong_parts(run, folder, part, status, message):
    for name, text in (("twice", "1\n1\n"), ("empty", "\n"), ("unknown", "nowhere\n")):
        (folder / f"{name}.txt").write_text(text)
    arguments, _ = commands(folder)["eval_panoptic"]
    assert message in run("eval_panoptic", *arguments, "--part", part, status=status).stderr


def test_a_part_of_ap_is_of_one_kind_and_of_pycocotools(run, folder):
    arguments, _ = commands(folder)["eval_coco_ap"]
    arguments = [*arguments, "bbox", "--save-part", "p.json"]
    error = run("eval_coco_ap", *arguments, status=2).stderr
    assert "--save-part needs one --iou-type, and --backend pycocotools" in error


def test_categories_that_only_segments_use_keep_their_order(run, folder):
    """They come in the order of the images, which a part does not see whole."""
    content = load(PANOPTIC / "gt.json")
    first, second = content["annotations"][:2]
    for annotation, new in ((first, 9001), (second, 9000)):
        annotation["segments_info"][0]["category_id"] = new
    (folder / "gt.json").write_text(json.dumps(content))
    arguments = ["--gt_json_file", "gt.json", "--gt_folder", PANOPTIC / "gt"]
    arguments += ["--pred_json_file", PANOPTIC / "pred.json", "--pred_folder", PANOPTIC / "pred"]
    run("eval_panoptic", *arguments, "--json", "whole.json")
    (folder / "a.txt").write_text(str(second["image_id"]))
    rest = [a["image_id"] for a in content["annotations"] if a is not second]
    (folder / "b.txt").write_text("\n".join(map(str, rest)))
    for name in "ab":
        run("eval_panoptic", *arguments, "--part", f"{name}.txt", "--save-part", f"{name}.json")
    run("eval_merge", "a.json", "b.json", "--json", "merged.json")
    whole, merged = load(folder / "whole.json"), load(folder / "merged.json")
    assert list(merged["per_category_stats"]) == list(whole["per_category_stats"])
    assert {"9000", "9001"} <= set(whole["per_category_stats"])
    assert merged["All"] == whole["All"]
