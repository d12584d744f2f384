"""What people do every day, each task as a user types it."""

import json
import threading
from functools import partial
from http.server import ThreadingHTTPServer

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmpanoptic.apis import PanopticInferencer
from mmpanoptic.utils import read_json
from tests.apis.test_image_inputs import QuietHandler
from tests.apis.tiny_model import CONFIG

# ---- inputs: what a user has --------------------------------------------------------------------


def rgb_tensor(made):
    return torch.from_numpy(made.image[..., ::-1].copy()).permute(2, 0, 1)


INPUTS = {
    "path as text": lambda made: str(made.data / "val/000001.jpg"),
    "path": lambda made: made.data / "val/000001.jpg",
    "array in BGR": lambda made: made.image,
    "PIL image": lambda made: Image.fromarray(made.image[..., ::-1]),
    "tensor of bytes": rgb_tensor,
    "tensor in [0, 1]": lambda made: rgb_tensor(made) / 255,
    "encoded bytes": lambda made: cv2.imencode(".png", made.image)[1].tobytes(),
    "batch of one": lambda made: made.image[None],
    "generator": lambda made: (made.image for _ in range(1)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_an_image_in_any_form_gives_the_same_result(kind, made, segment, result):
    (found,) = segment(INPUTS[kind](made))
    assert np.array_equal(found.panoptic_seg, result.panoptic_seg)


def test_an_array_in_rgb(made, segment, result):
    found = segment(np.ascontiguousarray(made.image[..., ::-1]), channels="rgb")[0]
    assert np.array_equal(found.panoptic_seg, result.panoptic_seg)


def test_a_folder(made, segment):
    assert [found.name for found in segment(made.data / "val")] == ["000001", "000002"]


def test_a_pattern(made, segment):
    assert len(segment(str(made.data / "*/00000[12].jpg"))) == 4


def test_a_list_of_different_things(made, segment):
    assert len(segment([made.data / "val", made.image, str(made.root / "turned.jpg")])) == 4


def test_a_photo_that_a_telephone_turned(made, segment):
    height, width = made.image.shape[:2]
    assert segment(made.root / "turned.jpg")[0].panoptic_seg.shape == (width, height)
    assert segment(Image.open(made.root / "turned.jpg"))[0].panoptic_seg.shape == (width, height)


def test_an_address(made, segment, result):
    handler = partial(QuietHandler, directory=str(made.data))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (found,) = segment(f"http://127.0.0.1:{server.server_port}/val/000001.jpg")
        server.shutdown()
    assert np.array_equal(found.panoptic_seg, result.panoptic_seg)


def test_a_video(made, segment):
    frames = segment(made.root / "film.mp4")
    assert [frame.name for frame in frames] == ["film/000001", "film/000002"]
    numbers = [[part.track_id for part in frame.segments] for frame in frames]
    assert None not in numbers[0]


def test_batches_give_what_single_images_give(made, segment):
    alone, together = (segment(made.data / "train", batch_size=size) for size in (1, 4))
    for one, other in zip(alone, together, strict=True):
        assert one.names == other.names


def test_many_images_one_by_one(made, segment):
    results = segment.iterate(made.data / "train")
    assert next(results).name == "000001"


# ---- outputs: what a user wants -----------------------------------------------------------------


def test_what_is_in_the_image(result):
    assert len(result.names) == len(result.segments) == len(result.scores) > 0
    assert set(result.names) <= {label.name for label in result.table}


def test_masks_and_boxes_agree(result):
    for mask, (x1, y1, x2, y2), area in zip(
        result.masks, result.boxes.astype(int), result.areas, strict=True
    ):
        assert mask.sum() == area
        assert mask[y1:y2, x1:x2].sum() == area


def test_the_largest_thing_cut_out(result):
    largest = int(np.argmax(result.areas))
    x1, y1, x2, y2 = result.segments[largest].box
    assert result.crop(largest).shape == (y2 - y1, x2 - x1, 3)


def test_a_table(result):
    pytest.importorskip("pandas")
    frame = result.to_pandas()
    assert frame.groupby("name")["area"].sum().sum() == result.areas.sum()


def test_detections_for_other_tools(result):
    pytest.importorskip("supervision")
    assert len(result.to_supervision()) == len(result.segments)


def test_an_entry_for_a_json(result):
    assert json.loads(json.dumps(result.to_coco()))["file_name"] == "000001.png"


def test_one_line_on_a_console(result):
    assert repr(result).startswith("PanopticResult(000001, 64 x 48: ")
    assert "\n" not in repr(result)


def test_a_picture_in_a_notebook(result):
    assert result._repr_png_().startswith(b"\x89PNG")


def test_a_picture_as_a_file(result, tmp_path):
    result.save(tmp_path / "out.jpg")
    assert cv2.imread(str(tmp_path / "out.jpg")).shape == (48, 64, 3)


def test_everything_as_files(result, tmp_path):
    assert len(result.save(tmp_path)) == len(list(tmp_path.iterdir())) == 3


def test_a_folder_in_the_format_of_coco(made, segment, tmp_path):
    segment(made.data / "val", out_dir=tmp_path)
    assert len(read_json(tmp_path / "panoptic.json")["annotations"]) == 2


# ---- commands -----------------------------------------------------------------------------------


def test_what_is_installed(mmpanoptic):
    done = mmpanoptic("info")
    assert done.status == 0
    for word in ("mmpanoptic", "torch", "devices", "configs", "weights"):
        assert f"\n{word} " in f"\n{done.out}"


def test_what_a_run_is(mmpanoptic, made):
    done = mmpanoptic("info", made.run)
    assert done.status == 0
    assert f"{made.run / 'iter_4.pth'}" in done.out
    assert "\nbackbone         " in done.out
    assert " million parameters\n" in done.out


def test_segmenting_with_a_run(mmpanoptic, made):
    done = mmpanoptic("infer", "photo.jpg", made.run, "--device", "cpu")
    assert done.status == 0, done.err
    assert (mmpanoptic.folder / "outputs/overlay/photo.png").is_file()
    assert "photo: " in done.out


def test_segmenting_with_a_run_that_is_named_in_front(mmpanoptic, made):
    done = mmpanoptic("infer", "--model", made.run, "photo.jpg", "--device", "cpu")
    assert done.status == 0, done.err
    assert "1 image done" in done.out


def test_segmenting_with_the_model_in_the_box(mmpanoptic):
    done = mmpanoptic("infer", "photo.jpg", "--model", "nuclei", "--device", "cpu")
    assert done.status == 0, done.err
    assert "1 image done" in done.out


def test_segmenting_a_video(mmpanoptic, made):
    done = mmpanoptic("infer", made.root / "film.mp4", made.run, "--device", "cpu")
    assert done.status == 0, done.err
    assert (mmpanoptic.folder / "outputs/overlay/film.mp4").stat().st_size > 0
    lines = (mmpanoptic.folder / "outputs/segments/film.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == [1, 2]


def test_testing_a_run(mmpanoptic, made):
    done = mmpanoptic("test", made.run, "--work-dir", "tested")
    assert done.status == 0, done.err
    assert "Panoptic quality by class" in done.out


def test_making_and_checking_data(mmpanoptic):
    size = ["--train", "1", "--val", "1", "--size", "32", "48"]
    assert mmpanoptic("convert", "shapes", "mine", *size).status == 0
    file = "mine/annotations/panoptic_train.json"
    done = mmpanoptic("check", file, "--img-dir", "mine/train")
    assert done.status == 0, done.err


def test_evaluating_files(mmpanoptic, made):
    truth = made.data / "annotations/panoptic_val.json"
    done = mmpanoptic("eval", "panoptic", "--gt_json_file", truth, "--pred_json_file", truth)
    assert done.status == 0, done.err
    assert "100.00" in done.out


def test_training_and_using_what_came_out(mmpanoptic, made):
    # mmengine's visualizers of one name share a folder in a process.
    small = [f"data_root={made.data}", "max_iters=1", "batch_size=2", "num_workers=0"]
    small.append("visualizer.name=of_this_run")
    done = mmpanoptic("train", CONFIG, "--work-dir", "run", "--cfg-options", *small)
    assert done.status == 0, done.err
    model = PanopticInferencer("run", device="cpu").model
    assert model.checkpoint.name.startswith("best_PQ")
    assert (mmpanoptic.folder / "run/curves.html").is_file()


def test_published_weights(mmpanoptic):
    done = mmpanoptic("weights", "list", "imagenet")
    assert done.status == 0
    assert "imagenet/resnet50" in done.out


def test_a_config_as_it_will_be_used(mmpanoptic, made):
    done = mmpanoptic("analyse", "print_config", made.run)
    assert done.status == 0, done.err
    assert "max_iters" in done.out


# ---- errors: one line, what to do, no traceback -------------------------------------------------

ERRORS = {
    "a command with a typing error": (["trian"], "did you mean train?"),
    "an option with a typing error": (
        ["infer", "a", "b", "--devise", "x"],
        "did you mean --device",
    ),
    "a config with a typing error": (["train", CONFIG.replace("deeplab", "deplab")], CONFIG),
    "a setting with a typing error": (
        ["train", CONFIG, "--cfg-options", "max_itres=3"],
        "max_iters",
    ),
    "an image that is not there": (["infer", "nothing.jpg", "RUN"], "no image or folder"),
    "a folder that no run wrote": (["test", "EMPTY"], "a folder without"),
    "weights that are missing": (["test", CONFIG], "the weights are missing"),
    "data that are not there": (
        ["train", CONFIG, "--cfg-options", "data_root=nowhere"],
        "convert shapes|dataset_converters/shapes.py",
    ),
    "a device that is not there": (["infer", "photo.jpg", "RUN", "--device", "cuda:9"], "cuda:9"),
    "no model": (["infer", "photo.jpg"], "--model NAME, the folder of a run or a model that comes"),
    "no model for a folder": (["infer", "EMPTY"], "nuclei: Finds every nucleus"),
    "no model for several": (["infer", "photo.jpg", "photo.jpg", "*.jpg"], "nuclei: Finds every"),
    "a model with a typing error": (["infer", "photo.jpg", "--model", "nuclie"], "nuclei"),
    "a run that is not there": (["infer", "photo.jpg", "--model", "work/run"], "no such folder"),
    "a file that is no image": (["infer", "RUN/config.py", "RUN"], "cannot|decode|image"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_what_is_wrong_is_said(kind, mmpanoptic, made):
    words, message = ERRORS[kind]
    (mmpanoptic.folder / "empty").mkdir()
    places = {"RUN": str(made.run), "EMPTY": "empty"}
    given = [places.get(word, word.replace("RUN/", f"{made.run}/")) for word in words]
    done = mmpanoptic(*given)
    assert done.status in (1, 2)
    assert any(part in done.err for part in message.split("|")), done.err
    assert "Traceback" not in done.out + done.err
    assert "not foreseen" not in done.err
