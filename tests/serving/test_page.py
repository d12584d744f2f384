"""The page in a real headless Chromium."""

import json
import re
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from mmpanoptic.utils.panoptic_png import decode_panoptic_png
from tests.visualization.browser import axe_violations, complaints, open_browser

from .running import cell_bytes, cells, serve, wait_for


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def browser(profile):
    words = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    browser = open_browser(profile, words)
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def model(inferencer):
    from mmpanoptic.serving.predictor import Predictor

    return Predictor(inferencer, "nuclei")


@pytest.fixture(scope="module")
def client(model):
    from mmpanoptic.serving.app import make_app

    with serve(make_app(model)) as client:
        yield client


@pytest.fixture
def page(browser, client):
    browser.get(f"{client.url}/")
    until(browser, lambda: find(browser, "#settings input"))
    return browser


def find(page, selector):
    return page.find_elements("css selector", selector)


def text(page, selector):
    return find(page, selector)[0].text


def until(page, happened):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(page, 120).until(lambda _: happened())


def choose_file(page, folder, number=0):
    """Give the page a file, as the dialog of the button does."""
    file = folder / f"cells {number}.png"
    file.write_bytes(cell_bytes(number))
    find(page, "#file")[0].send_keys(str(file))
    until(page, lambda: text(page, "#status").startswith(f"{file.name}: 208 x 160 pixels"))


def rows(page):
    return find(page, "#table tbody tr")


def slide(page, name, value):
    """Move a slider, and wait for the answer."""
    page.execute_script(
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input'))",
        f"set-{name}",
        str(value),
    )
    until(page, lambda: not find(page, "body.busy"))


@contextmanager
def no_network(model):
    """The network must not run in this block."""
    before = model.network_runs
    yield
    assert model.network_runs == before


def test_a_dropped_image_is_segmented(page, model, inferencer):
    page.execute_script(
        """
        const bytes = Uint8Array.from(arguments[0]);
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
        const zone = document.getElementById("drop");
        for (const kind of ["dragover", "drop"])
          zone.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true,
            cancelable: true }));
        """,
        list(cell_bytes()),
    )
    until(page, lambda: rows(page))
    plain = inferencer(cells())[0]
    assert (
        text(page, "#status") == f"dropped.png: 208 x 160 pixels, {len(plain.segments)} segments."
    )
    assert len(rows(page)) == len(plain.segments)
    first = [cell.text for cell in rows(page)[0].find_elements("css selector", "td")]
    assert first[:2] == ["nucleus #1", "thing"]
    assert first[3] == str(plain.areas[0])
    sizes = page.execute_script(
        "return ['under', 'over'].map((id) => document.getElementById(id).naturalWidth)"
    )
    assert sizes == [416, 416]  # enlarged, so that names can be read
    assert find(page, "#over")[0].get_attribute("alt") == "Segments of dropped.png"
    assert complaints(page) == []


def test_a_slider_changes_the_result_without_the_network(page, model, inferencer, tmp_path):
    choose_file(page, tmp_path)
    before, overlay = len(rows(page)), find(page, "#over")[0].get_attribute("src")
    with no_network(model):
        slide(page, "min_score", 0.62)
        scores = [s.score for s in inferencer(cells())[0].segments]
        assert len(rows(page)) == sum(score >= 0.62 for score in scores) < before
        assert find(page, "#over")[0].get_attribute("src") != overlay
        assert text(page, "output[for=set-min_score]") == "0.62"
        find(page, "#reset")[0].click()
        until(page, lambda: len(rows(page)) == before)
    assert find(page, "#over")[0].get_attribute("src") == overlay
    assert complaints(page) == []


def test_keys_alone_reach_sliders_table_and_downloads(page, model, tmp_path):
    from selenium.webdriver import ActionChains, Keys

    choose_file(page, tmp_path)
    reached, focused = [], None
    page.execute_script("document.getElementById('file').focus()")
    ActionChains(page).send_keys(Keys.TAB).perform()
    for _ in range(60):
        focused = page.switch_to.active_element
        reached.append(focused.get_attribute("id") or focused.text)
        if reached[-1] == "reset":
            break
        if reached[-1] == "nucleus #1":
            assert text(page, "#hover").startswith("prediction: nucleus 0.")
            marked = page.execute_script(
                "const c = document.getElementById('mark');"
                "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
                ".some((value) => value > 0)"
            )
            assert marked
        ActionChains(page).send_keys(Keys.TAB).perform()
    names = [f"set-{name}" for name in model.live.settings]
    assert {"webcam", "divide", "palette", "table", *names, "reset"} <= set(reached)
    assert {"Map (PNG)", "Overlay (PNG)", "Segments (JSON)", "nucleus #1"} <= set(reached)
    before = len(rows(page))
    with no_network(model):
        slider = find(page, "#set-min_score")[0]
        slider.send_keys(Keys.END)
        until(page, lambda: len(rows(page)) < before)
    assert complaints(page) == []


def test_pointing_names_a_segment_and_the_divider_shows_the_image(page, tmp_path, inferencer):
    from selenium.webdriver import ActionChains

    choose_file(page, tmp_path)
    plain = inferencer(cells())[0]
    segment = plain.segments[0]
    under = find(page, "#under")[0]
    until(page, lambda: under.size["width"] > 100)
    rows_, columns = np.nonzero(plain.panoptic_seg == segment.id)
    x, y = columns[len(columns) // 2], rows_[len(rows_) // 2]
    width, height = under.size["width"], under.size["height"]
    place = (
        round((x + 0.5) / 208 * width - width / 2),
        round((y + 0.5) / 160 * height - height / 2),
    )
    ActionChains(page).move_to_element_with_offset(under, *place).perform()
    until(page, lambda: text(page, "#hover"))
    wanted = f"prediction: nucleus {segment.score:.2f} #1, {segment.area} pixels"
    assert text(page, "#hover") == wanted
    page.execute_script(
        "const e = document.getElementById('divide'); e.value = 40;"
        "e.dispatchEvent(new Event('input'))"
    )
    assert "40%" in find(page, "#over")[0].get_attribute("style")
    assert complaints(page) == []


def test_map_drawing_and_segments_are_downloaded(page, model, inferencer, profile, tmp_path):
    choose_file(page, tmp_path, 2)
    plain = inferencer(cells(2))[0]
    names = {"png": "cells 2_panoptic.png", "overlay": "cells 2_overlay.png"}
    names["json"] = "cells 2_panoptic.json"
    with no_network(model):
        for answer, name in names.items():
            find(page, f"button[data-answer={answer}]")[0].click()
            wait_for(lambda name=name: (profile / name).is_file())
    assert (decode_panoptic_png((profile / names["png"]).read_bytes()) == plain.panoptic_seg).all()
    assert cv2.imread(str(profile / names["overlay"])).shape == (160, 208, 3)
    content = json.loads((profile / names["json"]).read_text())
    (saved,) = content["annotations"]
    assert saved["segments_info"] == plain.to_coco()["segments_info"]
    assert saved["file_name"] == names["png"]
    assert content["images"][0]["height"] == 160
    assert [c["name"] for c in content["categories"]] == ["nucleus", "background"]


def test_what_is_refused_is_explained_and_the_page_goes_on(page, tmp_path):
    file = tmp_path / "no image.png"
    file.write_bytes(b"hello")
    find(page, "#file")[0].send_keys(str(file))
    until(page, lambda: text(page, "#error"))
    assert "no image of a known format" in text(page, "#error")
    assert "What to do: " in text(page, "#error")
    (entry,) = complaints(page)  # Chromium's own line about the status
    assert "415" in entry
    choose_file(page, tmp_path)
    assert text(page, "#error") == ""


def test_an_image_that_is_not_kept_any_more_is_sent_again(page, model, tmp_path):
    choose_file(page, tmp_path)
    runs = model.network_runs
    with model.kept._lock:
        for name in list(model.kept._kept):
            model.kept._drop(name)
    before = len(rows(page))
    slide(page, "min_score", 1)
    assert len(rows(page)) < before
    assert model.network_runs == runs + 1
    with no_network(model):
        slide(page, "min_score", 0)
        assert len(rows(page)) == before
    (entry,) = complaints(page)
    assert "404" in entry


def test_the_webcam_is_segmented_frame_by_frame(page):
    find(page, "#webcam")[0].click()
    until(page, lambda: re.match(r"webcam_([2-9]|\d\d+)\.jpg: 640 x ", text(page, "#status")))
    assert find(page, "#webcam")[0].get_attribute("aria-pressed") == "true"
    assert rows(page)
    find(page, "#webcam")[0].click()
    until(page, lambda: not find(page, "body.busy"))
    assert find(page, "#webcam")[0].get_attribute("aria-pressed") == "false"
    assert not find(page, "#video")[0].is_displayed()
    assert complaints(page) == []


def test_axe_finds_no_fault_before_and_after(page, tmp_path):
    assert axe_violations(page) == []
    choose_file(page, tmp_path)
    assert axe_violations(page) == []
