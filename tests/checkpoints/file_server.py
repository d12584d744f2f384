"""An HTTP server on this machine whose faults can be chosen."""

import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serve ``files``; ``cut``, ``stall``, ``length`` and the like make it a bad server.

    Attributes:
        files (dict[str, bytes]): Content by path.
        pages (dict[str, bytes]): Web pages by path.
        redirects (dict[str, tuple]): New address and headers by path.
        states (dict[str, list[int]]): HTTP states to answer with first, by path.
        cut (int | None): Bytes after which a connection ends.
        length (int | None): Content-Length to claim.
        stall (float): Seconds to wait in the middle of the first answer.
        ranges (bool): Go on in the middle of a file.
        etag (str | None): What to call the version.
        requests (list): Path and headers of every request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.pages, self.redirects, self.states = {}, {}, {}, {}
        self.cut = self.length = None
        self.stall, self.slow, self.ranges, self.etag = 0.0, 0.0, True, '"1"'
        self.requests = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, *_):
        pass  # a client that hangs up is part of the tests

    def url(self, path):
        return f"http://127.0.0.1:{self.server_port}/{path.lstrip('/')}"

    def count(self):
        return Counter(path for path, _ in self.requests)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        path = self.path.split("?")[0]
        server.requests.append((path, dict(self.headers)))
        if path.startswith("http://"):  # as a proxy is asked
            path = "/" + path.split("/", 3)[3]
        if server.states.get(path):
            self.send_error(server.states[path].pop(0))
        elif path in server.redirects:
            target, headers = server.redirects[path]
            self.send_response(302)
            for name, value in {"Location": target, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
        elif path in server.pages:
            self._send(200, server.pages[path], {"Content-Type": "text/html; charset=utf-8"})
        elif path in server.files:
            self._send_file(server.files[path])
        else:
            self.send_error(404)

    def _send_file(self, data):
        start, wanted = 0, self.headers.get("Range")
        fresh = self.headers.get("If-Range") in (None, self.server.etag)
        if wanted and self.server.ranges and fresh:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.end_headers()
                return
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self._send(206 if start else 200, data[start:], headers)

    def _send(self, status, data, headers):
        server = self.server
        self.send_response(status)
        length = len(data) if server.length is None else server.length
        named = {"ETag": server.etag} if server.etag else {}
        for name, value in {"Content-Length": str(length), **named, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        sent = data[: server.cut] if server.cut is not None else data
        half = len(sent) // 2
        self.wfile.write(sent[:half])
        if server.stall:
            self.wfile.flush()
            pause, server.stall = server.stall, 0.0
            time.sleep(pause)
        for begin in range(half, len(sent), 1 << 14):
            self.wfile.write(sent[begin : begin + (1 << 14)])
            time.sleep(server.slow)
