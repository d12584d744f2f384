"""What a server answers, and what it refuses."""

import base64
import gc
import json
import logging
import runpy
import socket
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmpanoptic.apis import PanopticResult
from mmpanoptic.apis.inferencer import iter_sources
from mmpanoptic.apis.live_fusion import KeptOutputs
from mmpanoptic.serving.errors import RequestError
from mmpanoptic.serving.server import make_server
from mmpanoptic.utils.panoptic_png import decode_panoptic_png, encode_panoptic_png

from .running import cell_bytes, cells, serve, wait_for

ROOT = Path(__file__).parent.parent.parent
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n"
LIMITS = {"body": 300_000, "pixels": 500_000, "seconds": 60.0, "waiting": 20, "kept": 3}


def predictor(inferencer, **changes):
    from mmpanoptic.serving.limits import Limits
    from mmpanoptic.serving.predictor import Predictor

    return Predictor(inferencer, "nuclei", Limits(**{**LIMITS, **changes}))


@pytest.fixture(scope="module")
def model(inferencer):
    return predictor(inferencer)


@pytest.fixture(scope="module")
def client(model):
    from mmpanoptic.serving.app import make_app

    with serve(make_app(model, ["lab.example.org"])) as client:
        yield client


def decode(text):
    return decode_panoptic_png(base64.b64decode(text))


def test_a_result_is_what_the_inferencer_gives(client, inferencer):
    status, found = client.json("POST", "/predict", cell_bytes())
    plain = inferencer(cells())[0]
    assert status == 200
    assert (found["width"], found["height"]) == (208, 160)
    assert found["segments_info"] == plain.segments_info
    assert len(plain.segments_info) > 8
    assert (decode(found["panoptic_png"]) == plain.panoptic_seg).all()
    assert [c["name"] for c in found["categories"]] == ["nucleus", "background"]
    assert found["result"] is None  # nothing is kept unasked
    assert found["settings"]["threshold"] == 0.1


def test_map_and_drawing_come_alone_too(client, inferencer):
    plain = inferencer(cells())[0]
    status, headers, content = client.ask("POST", "/predict?answer=png", cell_bytes())
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert content == encode_panoptic_png(plain.panoptic_seg)
    _, _, content = client.ask("POST", "/predict?answer=overlay&palette=colorblind", cell_bytes())
    drawing = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert drawing.shape == (160, 208, 3)
    assert (drawing != cells()).any()
    _, _, other = client.ask("POST", "/predict?answer=overlay", cell_bytes())
    assert other != content


def test_thresholds_are_applied_to_what_was_kept_without_the_network(client, model, inferencer):
    _, first = client.json("POST", "/predict?keep=1", cell_bytes(1))
    runs = model.network_runs
    path = f"/results/{first['result']}"
    _, again = client.json("GET", path)
    assert again["segments_info"] == first["segments_info"]
    _, few = client.json("GET", f"{path}?min_score=0.999")
    assert 0 < len(few["segments_info"]) < len(first["segments_info"])
    assert few["settings"]["min_score"] == 0.999
    _, other = client.json("GET", f"{path}?threshold=0.6&answer=view")
    view = other["view"]
    assert sum(view["sides"][0]["runs"][1::2]) == view["width"] * view["height"]
    assert model.network_runs == runs
    _, sent = client.json("POST", "/predict?threshold=0.6", cell_bytes(1))
    assert sent["segments_info"] == other["segments_info"]
    assert model.network_runs == runs + 1


def test_kept_images_are_bounded_and_what_is_gone_is_said(client, model):
    names = [
        client.json("POST", "/predict?keep=1", cell_bytes(number))[1]["result"]
        for number in range(LIMITS["kept"] + 1)
    ]
    assert len(set(names)) == len(names)
    assert len(model.kept) == LIMITS["kept"]
    refused = client.refused(404, "GET", f"/results/{names[0]}")
    assert "POST /predict?keep=1" in refused["do"]
    assert client.ask("GET", f"/results/{names[-1]}")[0] == 200
    client.json("POST", f"/predict?keep=1&replaces={names[-1]}", cell_bytes())
    client.refused(404, "GET", f"/results/{names[-1]}")
    assert client.ask("GET", f"/results/{names[1]}")[0] == 200


def test_the_model_and_the_state_are_told(client, model):
    _, told = client.json("GET", "/model")
    assert {s["name"] for s in told["settings"]} == {
        *("min_score", "threshold", "top_k", "stuff_area"),
    }
    assert told["limits"]["pixels"] == LIMITS["pixels"]
    assert told["model"] == "nuclei"
    _, state = client.json("GET", "/health")
    assert state["status"] == "ok"
    assert state["free"] == 1 + LIMITS["waiting"]
    assert state["network_runs"] == model.network_runs


def test_the_orientation_of_a_photograph_is_honoured(client, inferencer):
    import io

    from PIL import Image

    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(cells()).save(file, "JPEG", exif=exif, quality=95)
    _, found = client.json("POST", "/predict", file.getvalue())
    assert (found["width"], found["height"]) == (160, 208)
    assert found["segments_info"] == inferencer(file.getvalue())[0].segments_info


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp", ".tiff"])
def test_formats(client, suffix):
    status, found = client.json("POST", "/predict", cell_bytes(suffix=suffix))
    assert status == 200
    assert found["width"] == 208


def bomb(width, height):
    """A PNG of few bytes whose header promises many pixels, with valid checksums."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 100_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def huge(kind):
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("1" if kind == "TIFF" else "L", (900, 900)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "data", [bomb(60_000, 60_000), bomb(1000, 501), huge("WEBP"), huge("TIFF")]
)
def test_decompression_bombs_are_seen_in_the_header(client, data, monkeypatch):
    from mmpanoptic.serving import predictor as module

    decoded = []
    monkeypatch.setattr(module, "iter_sources", lambda data: decoded.append(data) or iter([]))
    assert len(data) < LIMITS["body"]
    refused = client.refused(413, "POST", "/predict", data)
    assert "500,000 pixels" in refused["allowed"]
    assert not decoded


def deep():
    return cv2.imencode(".png", cells().astype(np.uint16) * 200)[1].tobytes()


@pytest.mark.parametrize(
    ("status", "data", "words"),
    [
        (400, b"", "no body"),
        (415, b"hello", "no image"),
        (415, b"GIF89a" + bytes(100), "no image"),
        (415, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image"),
        (415, b"/etc/passwd", "no image"),
        (415, cell_bytes()[:20], "no image"),
        (422, cell_bytes()[:-600], "damaged"),
        (422, cell_bytes(suffix=".jpg")[:-600], "damaged"),
        (422, deep(), "8 bits"),
        (413, bytes(LIMITS["body"] + 1), "too long"),
    ],
)
def test_what_is_no_image_is_refused(client, status, data, words):
    assert words in client.refused(status, "POST", "/predict", data)["error"]


def test_a_body_of_unknown_length_is_counted(client):
    with socket.create_connection(("127.0.0.1", client.port), 60) as link:
        link.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + bytes(65536) + b"\r\n"
        for _ in range(5):  # one more could meet a closed connection
            link.sendall(chunk)
        assert link.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("nonsense=1", "unknown setting nonsense"),
        ("threshold=2", "threshold must be a number from 0.0 to 1.0"),
        ("threshold=nan", "threshold must be"),
        ("threshold=abc", "is no number"),
        ("threshold=.1&threshold=.2", "twice"),
        ("answer=html", "answer=html is unknown"),
        ("palette=red", "palette=red is unknown"),
        ("keep=maybe", "keep=maybe is unknown"),
        ("path=/etc/passwd", "is no number"),
    ],
)
def test_wrong_words_of_an_address_are_named(client, model, query, words):
    runs = model.network_runs
    assert words in client.refused(422, "POST", f"/predict?{query}", cell_bytes())["error"]
    assert model.network_runs == runs


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "/../../etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/static/"),
        *("/page.js/../serve.html", "/templates/serve.html", "/results/", "/docs", "/openapi.json"),
        *("/results/..%2f..%2fetc%2fpasswd", "/results/%00", "/page.css%00", "/model/"),
        *("/file:///etc/passwd", "/%2e%2e/setup.py", "/.git/config"),
    ],
)
def test_no_file_of_the_server_is_readable(client, path):
    status, _, content = client.ask("GET", path)
    assert status == 404
    assert json.loads(content).keys() == {"error", "allowed", "do"}
    assert b"root:" not in content


def test_a_path_as_the_body_or_a_setting_is_not_opened(client, tmp_path):
    file = tmp_path / "cells.png"
    file.write_bytes(cell_bytes())
    for body in (str(file), file.as_uri(), f"@{file}", json.dumps({"path": str(file)})):
        client.refused(415, "POST", "/predict", body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/predict"), ("PUT", "/predict"), ("POST", "/"), ("DELETE", "/results/x")],
)
def test_other_methods_are_refused(client, method, path):
    client.refused(405, method, path)


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a@127.0.0.1", "[::1"],
)
def test_other_names_of_this_machine_are_refused(client, host):
    assert "--allow-host" in client.refused(421, "GET", "/model", Host=host)["do"]


@pytest.mark.parametrize(
    "host", ["localhost:99", "127.0.0.1", "[::1]:8000", "10.1.2.3", "LAB.example.org:80"]
)
def test_addresses_and_admitted_names_are_served(client, host):
    assert client.ask("GET", "/model", Host=host)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
def test_pages_of_others_get_no_work_done(client, model, headers):
    runs = model.network_runs
    client.refused(403, "POST", "/predict", cell_bytes(), **headers)
    assert model.network_runs == runs


def test_the_own_page_may_post(client):
    status, _, _ = client.ask("POST", "/predict", cell_bytes(), Origin=client.url)
    assert status == 200


@pytest.mark.parametrize("path", ["/", "/page.js", "/page.css", "/nothing", "/model"])
def test_every_answer_has_the_headers(client, path):
    from mmpanoptic.serving.guard import HEADERS

    _, headers, _ = client.ask("GET", path)
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert "server" not in headers
    assert "access-control-allow-origin" not in headers
    assert "unsafe" not in headers["Content-Security-Policy"]


def test_the_page_names_nothing_from_elsewhere_and_nothing_inline(client):
    texts = [client.ask("GET", path)[2].decode() for path in ("/", "/page.css", "/page.js")]
    assert "style=" not in texts[0]
    assert "<style" not in texts[0]
    assert "http" not in "".join(texts).replace("https and to localhost", "")
    assert '<script src="page.js"></script>' in texts[0]


def test_a_fault_of_the_program_is_told_without_its_words(client, model, monkeypatch):
    def fail(source):
        raise KeyError("/secret/path")

    monkeypatch.setattr(model.live, "run", fail)
    refused = client.refused(500, "POST", "/predict", cell_bytes())
    assert "secret" not in str(refused)
    monkeypatch.undo()
    assert client.ask("POST", "/predict", cell_bytes())[0] == 200


def test_lack_of_memory_is_told(client, model, monkeypatch):
    def fail(source):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1")

    monkeypatch.setattr(model.live, "run", fail)
    assert "memory" in client.refused(503, "POST", "/predict", cell_bytes())["error"]


class Slow:
    """Stands for a model whose work lasts as long as the test wants."""

    def __init__(self, model):
        self.go, self.begun, self.plain = threading.Event(), threading.Semaphore(0), model.live.run

    def __call__(self, source):
        self.begun.release()
        assert self.go.wait(120)
        return self.plain(source)


def test_a_full_queue_says_when_to_try_again(inferencer, monkeypatch):
    from mmpanoptic.serving.app import make_app

    model = predictor(inferencer, waiting=2)
    slow = Slow(model)
    monkeypatch.setattr(model.live, "run", slow)
    with serve(make_app(model)) as client, ThreadPoolExecutor(3) as pool:
        running = [pool.submit(client.ask, "POST", "/predict", cell_bytes(k)) for k in range(3)]
        wait_for(lambda: client.json("GET", "/health")[1]["free"] == 0)  # the loop is not blocked
        status, headers, content = client.ask("POST", "/predict", cell_bytes())
        assert (status, headers["Retry-After"]) == (503, "1")
        assert json.loads(content)["allowed"] == "3 requests at once"
        slow.go.set()
        assert [one.result()[0] for one in running] == [200] * 3
        assert client.json("GET", "/health")[1]["free"] == 3
        assert client.ask("POST", "/predict", cell_bytes())[0] == 200


def test_what_takes_too_long_is_given_up_and_its_place_is_free_afterwards(inferencer, monkeypatch):
    from mmpanoptic.serving.app import make_app

    model = predictor(inferencer, seconds=2.0, waiting=1)
    slow = Slow(model)
    monkeypatch.setattr(model.live, "run", slow)
    with serve(make_app(model)) as client:
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(client.ask, "POST", "/predict", cell_bytes(k)) for k in range(2)]
            assert [one.result()[0] for one in both] == [504] * 2
        # One still runs in its thread and holds its place; the one that waited holds none.
        wait_for(lambda: client.json("GET", "/health")[1]["free"] == 1)
        slow.go.set()
        wait_for(lambda: client.json("GET", "/health")[1]["free"] == 2)
        assert model.network_runs == 1


def test_a_body_that_does_not_come_is_given_up(inferencer):
    from mmpanoptic.serving.app import make_app

    model = predictor(inferencer, seconds=0.3)
    with serve(make_app(model)) as client:
        with socket.create_connection(("127.0.0.1", client.port), 60) as link:
            link.sendall(
                b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nabc"
            )
            assert link.recv(100).startswith(b"HTTP/1.1 408")
        assert client.json("GET", "/health")[1]["free"] == 21


def test_clients_that_have_gone_are_not_worked_for(inferencer, monkeypatch):
    from mmpanoptic.serving.app import make_app

    model = predictor(inferencer)
    slow = Slow(model)
    monkeypatch.setattr(model.live, "run", slow)
    with serve(make_app(model)) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.ask, "POST", "/predict", cell_bytes())
        assert slow.begun.acquire(timeout=120)
        links = []
        for _ in range(3):
            link = socket.create_connection(("127.0.0.1", client.port), 60)
            head = (
                f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(cell_bytes())}"
            )
            link.sendall(head.encode() + b"\r\n\r\n" + cell_bytes())
            links.append(link)
        wait_for(lambda: client.json("GET", "/health")[1]["free"] == 17)
        for link in links:
            link.close()
        wait_for(lambda: client.json("GET", "/health")[1]["free"] == 20)
        slow.go.set()
        assert first.result()[0] == 200
        assert model.network_runs == 1


def test_four_clients_get_their_own_results(client):
    """With other thresholds each, sent and asked for again, at the same time."""
    plain = [
        [client.json("POST", f"/predict?min_score={s}", cell_bytes(k))[1]["segments_info"]
         for s in (0, 0.5)]
        for k in range(4)
    ]  # fmt: skip
    assert len({json.dumps(one) for one in plain}) == 4

    def work(k):
        for _ in range(3):
            _, found = client.json("POST", "/predict?keep=1", cell_bytes(k))
            assert found["segments_info"] == plain[k][0]
            status, again = client.json("GET", f"/results/{found['result']}?min_score=0.5")
            if status == 200:  # else the others have sent three images meanwhile
                assert again["segments_info"] == plain[k][1]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))


def test_nothing_of_a_request_stays(client, model):
    """Counted exactly: tensors and images that are alive after many requests and after few."""

    def alive():
        gc.collect()
        kinds = (torch.Tensor, KeptOutputs, PanopticResult, RequestError)
        return sum(isinstance(one, kinds) for one in gc.get_objects())

    def work():
        for k in range(LIMITS["kept"] + 2):
            client.ask("POST", "/predict?keep=1", cell_bytes(k))
            client.ask("POST", "/predict?threshold=0.3", cell_bytes(k))
            client.ask("POST", "/predict", b"none")

    work()
    before = alive()
    work()
    wait_for(lambda: alive() <= before)  # the server may have held its last error at first


def test_several_threads_share_the_model(inferencer):
    from mmpanoptic.serving.app import make_app

    model = predictor(inferencer, workers=3)
    with serve(make_app(model)) as client, ThreadPoolExecutor(4) as pool:
        images = [cell_bytes(k % 4) for k in range(12)]
        found = list(pool.map(lambda data: client.json("POST", "/predict", data)[1], images))
    assert [one["segments_info"] for one in found[:4]] == [
        inferencer(next(iter_sources(data)).image)[0].segments_info for data in images[:4]
    ]
    for k, one in enumerate(found):
        assert one["segments_info"] == found[k % 4]["segments_info"]


def test_the_client_of_the_documentation(client, inferencer, tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    example = runpy.run_path(str(ROOT / "examples" / "predict_by_http.py"))
    file = tmp_path / "cells.png"
    file.write_bytes(cell_bytes())
    found = example["predict"](file, client.url, min_score=0.5)
    plain = inferencer(cells())[0].without_things_below(0.5)
    assert found["segments_info"] == plain.segments_info
    with pytest.raises(SystemExit, match=r"unknown setting nonsense.*allowed: settings of this"):
        example["predict"](file, client.url, nonsense=1)


def test_a_server_leaves_log_files_open(tmp_path):
    handler = logging.FileHandler(tmp_path / "log", "w")
    make_server(None)
    assert not handler.stream.closed
    handler.close()
