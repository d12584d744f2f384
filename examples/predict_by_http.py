"""Ask a running `mmpanoptic serve` for the segments of an image; the standard library suffices."""

import base64
import json
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def predict(image: Path, server: str = "http://127.0.0.1:8000", **thresholds: float) -> dict:
    """Send an image and return the answer: segments, and the map as a PNG."""
    query = "&".join(f"{name}={value}" for name, value in thresholds.items())
    request = Request(f"{server}/predict?{query}", image.read_bytes())  # noqa: S310 - http
    try:
        with urlopen(request, timeout=120) as answer:  # noqa: S310 - as above
            return json.load(answer)
    except HTTPError as refused:
        content = json.load(refused)
        text = f"{content['error']}; allowed: {content['allowed']}; {content['do']}"
        raise SystemExit(text) from refused


if __name__ == "__main__":
    path = Path(sys.argv[1])
    result = predict(path, *sys.argv[2:3])
    for segment in result["segments_info"]:
        print(segment["name"], round(segment["score"], 3), segment["area"], segment["bbox"])
    # Ids as COCO writes them: R + 256 G + 65536 B, 0 is void.
    Path(f"{path.stem}_panoptic.png").write_bytes(base64.b64decode(result["panoptic_png"]))
