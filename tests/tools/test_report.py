import importlib
import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from mmpanoptic import commands
from mmpanoptic.apis.error_report import describe_comparison
from mmpanoptic.datasets.shapes import SHAPES_TABLE, ShapesSettings, make_scene
from mmpanoptic.utils import read_json, write_json
from mmpanoptic.utils.panoptic_png import encode_panoptic_png
from tests.visualization.browser import axe_violations, complaints, open_browser

COUNT = 7


def write_data(folder):
    """Images, ground truth and a worse prediction the farther an image is in the list."""
    for part in ("img", "gt", "pred"):
        (folder / part).mkdir(parents=True)
    images, truth, found = [], [], []
    classes = [label.dataset_id for label in SHAPES_TABLE if label.isthing]
    for k in range(COUNT):
        scene = make_scene(ShapesSettings(96, 64), "train", k)
        ids = scene.ids.copy()
        ids[:, : 4 * k] = np.roll(ids, 7, axis=1)[:, : 4 * k]
        info = []
        for segment in scene.segments:
            if not (ids == segment["id"]).any():
                continue
            category = segment["category_id"]
            if k > 2 and category in classes:
                category = classes[(classes.index(category) + 1) % len(classes)]
            info.append({"id": segment["id"], "category_id": category, "score": 0.99 - 0.01 * k})
        ids[~np.isin(ids, [s["id"] for s in info])] = 0
        cv2.imwrite(str(folder / "img" / f"{k}.png"), scene.image)
        for part, values in (("gt", scene.ids), ("pred", ids)):
            (folder / part / f"{k}.png").write_bytes(encode_panoptic_png(values))
        images.append({"id": k, "file_name": f"{k}.png", "height": 64, "width": 96})
        truth.append({"image_id": k, "file_name": f"{k}.png", "segments_info": scene.segments})
        found.append({"image_id": k, "file_name": f"{k}.png", "segments_info": info})
    categories = SHAPES_TABLE.to_categories()
    content = {"images": images, "annotations": truth, "categories": categories}
    write_json(folder / "gt.json", content)
    write_json(folder / "pred.json", {"annotations": found})
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data <b>"))


def report(data, out, *more, status=0):
    words = [data / "gt.json", data / "pred.json", data / "img", "--out-dir", out]
    words += ["--nproc", 1, "--samples", 50, *more]
    assert commands.main(["report", *map(str, words)]) == status


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "my report"
    report(data, out, "--against", data / "pred.json", "--title", "<b>Shapes</b>")
    return out


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = open_browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, folder):
    browser.get((folder / "index.html").as_uri())
    return browser


def find(page, selector):
    return page.find_elements("css selector", selector)


def choose(page, name, value):
    page.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('change'))",
        name,
        str(value),
    )


def test_the_folder_has_everything_and_the_figures_fit_the_evaluation(folder, data):
    figures = read_json(folder / "report.json")
    assert figures["images"] == COUNT
    assert len(list((folder / "images").iterdir())) == 6 * COUNT
    rows = figures["per_image"]
    assert sum(row["loss"] for row in rows) == pytest.approx(
        1 - figures["quality"]["groups"]["All"]["pq"]
    )
    assert rows[0]["pq"] == 1
    assert rows[0]["file_name"] == "0.png"
    assert figures["comparison"]["groups"]["All"]["interval"] == [0, 0]
    assert cv2.imread(str(folder / "images" / "00000_difference.jpg")).shape == (384, 576, 3)


def test_segments_of_an_image_can_be_read_back(folder, data):
    text = (folder / "images" / "00000.js").read_text()
    name, _, body = text.removeprefix("segmentMaps(").removesuffix(");\n").partition(", ")
    content = json.loads(body)
    assert json.loads(name) == "images/00000.js"
    assert sum(content["sides"][0]["runs"][1::2]) == content["width"] * content["height"]
    assert {side["name"] for side in content["sides"]} == {"truth", "prediction"}


def test_the_page_of_5000_images_is_small(tmp_path, folder):
    """Grow the page's data as so many images would, with as many errors as the worst one has."""
    text = (folder / "index.html").read_text()
    start = text.index('id="data">') + len('id="data">')
    content = json.loads(text[start : text.index("</script>", start)])
    row = max(len(json.dumps(image)) for image in content["images"])
    assert len(text) + 5000 * row < 5e6


def test_fewer_images_are_drawn_on_demand_and_said(data, tmp_path, capsys):
    report(data, tmp_path / "few", "--num", 2)
    assert len(list((tmp_path / "few" / "images").iterdir())) == 12
    out = capsys.readouterr().out
    assert "2 of 7 images drawn" in out
    assert "poor boundary" in out


@pytest.mark.parametrize(
    ("difference", "ends", "text"),
    [
        (0.012, [0.004, 0.02], "PQ is better than base by 1.2, 95 % 0.4 to 2.0"),
        (-0.03, [-0.05, -0.01], "PQ is worse than base by 3.0, 95 % 1.0 to 5.0"),
        (
            0.01,
            [-0.01, 0.03],
            "PQ is better than base by 1.0, 95 % -1.0 to 3.0; this may be chance",
        ),
        (0.0, [0.0, 0.0], "PQ equals that of base"),
    ],
)
def test_a_comparison_is_a_sentence(difference, ends, text):
    row = {"difference": difference, "interval": ends}
    assert describe_comparison({"groups": {"All": row}}, "base") == text


def test_of_a_run_the_newest_predictions_are_taken_or_it_is_tested(tmp_path, monkeypatch):
    module = importlib.import_module("mmpanoptic.commands.analysis_tools.report")
    tested = []
    monkeypatch.setattr(module.cli, "call_tool", lambda *words: tested.append(words))
    args = SimpleNamespace(cfg_options={"data_root": "x"})
    old, new = (tmp_path / name / "predictions.panoptic.json" for name in ("old", "new"))
    for path, time in ((old, 100), (new, 300)):
        write_json(path, {})
        os.utime(path, (time, time))
    assert module.predictions_of_run(tmp_path, args) == new  # no weights, but predictions
    weights = tmp_path / "iter_1.pth"
    weights.write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text(str(weights))
    os.utime(weights, (200, 200))
    assert module.predictions_of_run(tmp_path, args) == new
    assert not tested
    os.utime(weights, (400, 400))
    made = tmp_path / "predictions"
    assert module.predictions_of_run(tmp_path, args) == made / "predictions.panoptic.json"
    words = ("test.py", tmp_path, "--out-dir", made, "--cfg-options", "data_root=x")
    assert tested == [words]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--out-dir", "x"], "name the folder of a run, or GT_JSON PRED_JSON [IMAGES]"),
        (["a", "b", "c", "--out-dir", "x"], "c is no folder; IMAGES names that of the images"),
        (["a", "b", "--out-dir", "x", "--cfg-options", "a=1"], "files have none"),
    ],
)
def test_wrong_words_are_named(words, message, capsys):
    assert commands.main(["report", *words]) == 2
    assert message in capsys.readouterr().err


def test_images_of_another_size_are_named(data, tmp_path, capsys):
    (tmp_path / "img").mkdir()
    for k in range(COUNT):
        cv2.imwrite(str(tmp_path / "img" / f"{k}.png"), np.zeros((10, 10, 3), np.uint8))
    words = [data / "gt.json", data / "pred.json", tmp_path / "img", "--out-dir", tmp_path / "o"]
    assert commands.main(["report", *map(str, words), "--nproc", "1"]) == 1
    assert "is 10x10, its map" in capsys.readouterr().err


def test_the_page_opens_from_the_file_system_without_complaint(page):
    assert page.title == "<b>Shapes</b>"
    for section in ("quality", "comparison", "errors", "sizes", "confusion", "scores", "gallery"):
        assert find(page, f"#{section} h2")
    assert len(find(page, "svg[role=img]")) >= 6
    assert len(find(page, "#cards button")) == COUNT
    assert complaints(page) == []


def test_filters_and_order_choose_images(page, folder):
    figures = read_json(folder / "report.json")
    kinds = list(figures["errors"]["kinds"])
    invented = kinds.index("invented")
    choose(page, "filter-kind", invented)
    some = len(find(page, "#cards button"))
    assert 0 < some < COUNT
    assert find(page, "#count")[0].text == f"{some} of {COUNT} images"
    with_wrong_class = set()
    for c in range(len(figures["classes"])):
        choose(page, "filter-class", c)
        with_wrong_class.add(len(find(page, "#cards button")))
    assert min(with_wrong_class) < some
    choose(page, "filter-class", "")
    choose(page, "filter-kind", "")
    choose(page, "order", "name")
    texts = [button.text for button in find(page, "#cards button")]
    assert [text[0] for text in texts] == [str(k) for k in range(COUNT)]
    choose(page, "order", "loss")
    losses = [float(b.text.split("loss ")[1].split(",")[0]) for b in find(page, "#cards button")]
    assert losses == sorted(losses, reverse=True)
    assert complaints(page) == []


def test_an_image_opens_and_is_left_by_keys_alone(page):
    from selenium.webdriver import ActionChains, Keys

    page.execute_script("document.querySelector('#cards button').focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    dialog = find(page, "#viewer")[0]
    assert dialog.is_displayed()
    title = find(page, "#viewer-name")[0].text
    assert f"1 of {COUNT}" in title
    keys = ActionChains(page)
    keys.send_keys(Keys.ARROW_RIGHT).perform()
    assert f"2 of {COUNT}" in find(page, "#viewer-name")[0].text
    ActionChains(page).send_keys("4").perform()
    assert find(page, "#viewer-over")[0].get_attribute("src").endswith("_difference.jpg")
    assert find(page, "#viewer-over")[0].get_attribute("alt").startswith("difference of ")
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()
    assert complaints(page) == []


def test_the_slider_divides_and_pointing_names_a_segment(page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.support.ui import WebDriverWait

    page.execute_script("document.querySelector('#cards button').click()")
    slider = find(page, "#viewer-divide")[0]
    page.execute_script(
        "arguments[0].value = 20; arguments[0].dispatchEvent(new Event('input'))", slider
    )
    assert "20%" in find(page, "#viewer-over")[0].get_attribute("style")
    WebDriverWait(page, 10).until(lambda p: find(p, "#viewer-segments tbody tr"))
    under = find(page, "#viewer-under")[0]
    WebDriverWait(page, 10).until(lambda p: under.size["width"] > 100)
    ActionChains(page).move_to_element(under).perform()
    WebDriverWait(page, 10).until(lambda p: find(p, "#hover")[0].text)
    text = find(page, "#hover")[0].text
    assert text.startswith("truth: ")
    assert " | prediction: " in text
    assert any(label.name in text for label in SHAPES_TABLE) or "void" in text
    assert complaints(page) == []


def test_verdicts_on_suspects_are_exported(page, browser, tmp_path):
    rows = find(page, "#suspect-table tbody tr")
    page.execute_script(
        "window.saved = []; const make = URL.createObjectURL;"
        "URL.createObjectURL = (blob) => { blob.text().then((t) => window.saved.push(t));"
        " return make(blob); }"
    )
    selects = find(page, "#suspect-table select")
    for select in selects[:1]:
        page.execute_script("arguments[0].value = 'label'", select)
    find(page, "#export")[0].click()
    assert find(page, "#exported")[0].text == f"{len(rows)} rows exported"
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(page, 10).until(lambda p: p.execute_script("return window.saved.length"))
    saved = json.loads(page.execute_script("return window.saved[0]"))
    assert len(saved) == len(rows) > 0
    assert saved[0]["verdict"] == "label"
    assert {"image_id", "segment_id", "predicted", "annotated", "score"} <= saved[0].keys()


def test_axe_finds_no_fault_on_the_page_and_in_the_viewer(page):
    from selenium.webdriver.support.ui import WebDriverWait

    assert axe_violations(page) == []
    page.execute_script("document.querySelector('#cards button').click()")
    WebDriverWait(page, 60).until(lambda p: find(p, "#viewer-segments tbody tr"))
    page.execute_script(  # so many errors that the list scrolls
        "const body = document.querySelector('#viewer-segments tbody');"
        "for (let k = 0; k < 40; k += 1) body.append(body.firstChild.cloneNode(true))"
    )
    assert axe_violations(page) == []


def test_the_gallery_has_the_same_viewer(browser, tmp_path):
    from mmpanoptic.visualization import GalleryEntry, write_gallery

    entries = [GalleryEntry(f"{k}.jpg", np.full((40, 60, 3), 50 * k, np.uint8)) for k in range(3)]
    browser.get(write_gallery(tmp_path, entries, table=SHAPES_TABLE).as_uri())
    find(browser, "a.picture")[1].click()
    assert find(browser, "#viewer")[0].is_displayed()
    assert "1.jpg (2 of 3)" in find(browser, "#viewer-name")[0].text
    assert complaints(browser) == []
