"""A server in a thread of the test's process, and a client of it."""

import http.client
import json
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np


class Client:
    """Requests to a server on this machine."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, timeout=120, **headers):
        """Status, headers and body of the answer to a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, method, path, body=None, **headers):
        """Status and content."""
        status, _, content = self.ask(method, path, body, **headers)
        return status, json.loads(content)

    def refused(self, status, method, path, body=None, **headers):
        """The answer to a request that must be refused with a status: all three texts."""
        found, content = self.json(method, path, body, **headers)
        assert found == status, content
        assert content.keys() == {"error", "allowed", "do"}
        assert all(isinstance(text, str) and text for text in content.values())
        return content


@contextmanager
def serve(app):
    """Serve an application; ends when the block does."""
    from mmpanoptic.serving.server import listen, make_server

    server = make_server(app)
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        try:
            wait_for(lambda: server.started)
            yield Client(port)
        finally:
            server.should_exit = True
            thread.join(120)
            assert not thread.is_alive()


def wait_for(happened, seconds=120):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def cells(number=0, height=160, width=208):
    """An image with 12 bright blobs but a few, which the shipped model takes for nuclei."""
    image = np.full((height, width, 3), 6, np.uint8)
    rng = np.random.default_rng(number)
    for k in range(12 - number % 5):
        place = (30 + 48 * (k % 4) + int(rng.integers(-5, 6)), 30 + 48 * (k // 4))
        axes = (int(rng.integers(9, 13)), int(rng.integers(9, 13)))
        cv2.ellipse(image, place, axes, 30, 0, 360, (90, 90, 90), -1)
    image = cv2.GaussianBlur(image, (0, 0), 1)
    noise = rng.normal(0, 3, image.shape[:2])[..., None]
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def cell_bytes(number=0, suffix=".png", **size):
    """The file of such an image."""
    return cv2.imencode(suffix, cells(number, **size))[1].tobytes()
