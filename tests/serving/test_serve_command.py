"""The command in a process of its own: load, memory, and how it ends."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmpanoptic import commands
from tests.apis.tiny_model import CONFIG, write_checkpoint

from .running import Client, cell_bytes, wait_for

ROOT = Path(__file__).parent.parent.parent
REQUESTS, CLIENTS = 200, 4


@pytest.fixture
def server(tmp_path):
    """The demo's model with random weights, served on a free port."""
    checkpoint = write_checkpoint(tmp_path / "weights.pth")
    words = [sys.executable, "tools/serve.py", CONFIG, str(checkpoint), "--port", "0"]
    words += ["--device", "cpu", "--threads", "1", "--keep", "8"]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            for line in process.stdout:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    break
            client = Client(int(found[1]))
            wait_for(lambda: answers(client))
            yield process, client
        finally:
            process.kill()


def answers(client):
    try:
        return client.ask("GET", "/health")[0] == 200
    except ConnectionRefusedError:
        return False


def memory(process):
    """Resident bytes of a process; None where the system does not tell."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return None
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) << 10


def test_200_requests_of_four_clients_and_a_clean_stop(server):
    process, client = server
    images = [cell_bytes(number, height=64, width=96) for number in range(8)]
    plain = [digest(client, data) for data in images]
    assert len(set(plain)) == len(images)

    def work(number):
        data = images[number % len(images)]
        if number % 3:
            return digest(client, data) == plain[number % len(images)]
        _, found = client.json("POST", "/predict?keep=1", data)
        path = f"/results/{found['result']}?answer=overlay"
        return digest(client, None, "GET", path) == plain[number % len(images)]

    quarter, resident = REQUESTS // 4, []
    with ThreadPoolExecutor(CLIENTS) as pool:
        for first in range(0, REQUESTS, quarter):
            assert all(pool.map(work, range(first, first + quarter)))
            resident.append(memory(process))
    # The allocator gives memory back as it likes; what leaks grows from quarter to quarter.
    if None not in resident:
        assert max(resident[2:]) - max(resident[:2]) < 32 << 20, resident
    state = client.json("GET", "/health")[1]
    assert state["network_runs"] == len(images) + REQUESTS
    assert state["kept_images"] == 8
    assert state["free"] == 17

    # A stop while requests run: they are answered, new ones are not, the status is 0.
    large = cell_bytes(height=512, width=768)  # takes long enough to be seen running
    expected = digest(client, large)
    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(digest, client, large) for _ in range(CLIENTS)]
        wait_for(lambda: client.json("GET", "/health")[1]["free"] == 17 - CLIENTS)
        process.send_signal(signal.SIGTERM)
        assert [one.result() for one in running] == [expected] * CLIENTS
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    assert "stopped" in out
    assert "Traceback" not in out
    with pytest.raises(ConnectionRefusedError):
        client.ask("GET", "/health")


def digest(client, data, method="POST", path="/predict?answer=overlay"):
    status, _, content = client.ask(method, path, data)
    assert status == 200, content
    return hashlib.sha256(content).hexdigest()


STOPS = """
import sys, time
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from mmpanoptic.serving.server import listen, make_server
import asyncio

async def slow(request):
    print("begun", flush=True)
    await asyncio.sleep(1)
    return PlainTextResponse("done")

with listen("127.0.0.1", 0) as taken:
    print(taken.getsockname()[1], flush=True)
    make_server(Starlette(routes=[Route("/", slow)])).run(sockets=[taken])
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_end_with_the_running_requests(number):
    with subprocess.Popen(
        [sys.executable, "-c", STOPS], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        client = Client(int(process.stdout.readline()))
        found = []
        wait_for(lambda: accepts(client.port))
        thread = threading.Thread(target=lambda: found.append(client.ask("GET", "/")))
        thread.start()
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        thread.join(120)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert out == "stopped\n"
    assert found[0][2] == b"done"


def accepts(port):
    with socket.socket() as link:
        return link.connect_ex(("127.0.0.1", port)) == 0


def test_a_port_that_is_taken_is_named(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert commands.main(["serve", "nuclei", "--port", str(port)]) == 1
    err = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1: port {port} is taken; --port takes another" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing"], "missing"),
        (["nuclei", "--port", "70000"], "--port must be at most 65535"),
        (["nuclei", "--max-mb", "0"], "--max-mb"),
        (["panoptic-deeplab_r18-tiny_1xb8-500_shapes"], "the weights are missing"),
    ],
)
def test_wrong_words_are_named(words, message, capsys):
    assert commands.main(["serve", *words]) in (1, 2)
    assert message in capsys.readouterr().err


def test_only_a_host_that_was_named_is_listened_on_and_said(monkeypatch, capsys):
    from mmpanoptic.serving import server

    monkeypatch.setattr(server.Server, "run", lambda *_, **__: None)
    bound = []
    plain = server.listen
    monkeypatch.setattr(server, "listen", lambda *a: bound.append(plain(*a)) or bound[-1])
    assert commands.main(["serve", "nuclei", "--port", "0"]) == 0
    assert "warning" not in capsys.readouterr().out
    everybody = "0.0.0.0"  # noqa: S104 - the test is about the warning
    assert commands.main(["serve", "nuclei", "--port", "0", "--host", everybody]) == 0
    out = capsys.readouterr().out
    assert "--host 0.0.0.0 is reached from other machines, and there is no password" in out
    assert [one.family for one in bound] == [socket.AF_INET] * 2


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_an_absent_package_is_named_with_the_extra(name, monkeypatch, capsys):
    for module in [m for m in sys.modules if m.startswith((f"{name}.", "mmpanoptic.serving"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    assert commands.main(["serve", "nuclei"]) == 1
    assert f"serve needs {name}: pip install 'mmpanoptic[web]'" in capsys.readouterr().err


def test_the_server_keeps_out_what_it_does_not_need():
    """No form parser, no documentation pages, no model library before a model is asked for."""
    code = "import sys, json, mmpanoptic.serving.server; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=os.environ
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "fastapi", "multipart", "python_multipart", "gradio"}
