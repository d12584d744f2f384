"""What a tool loads: who needs no network waits for no torch, whose import takes seconds."""

import json
import shutil
import subprocess
import sys

import pytest

HEAVY = ("torch", "mmengine", "mmcv", "mmdet", "mmseg", "matplotlib", "scipy")
RUN = """
import json, runpy, sys
sys.argv = json.loads(sys.argv[1])
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
print("loaded", *sys.modules)
"""


def loaded_by(tool, *arguments):
    """Run a tool in a new process; return the heavy modules that it loaded."""
    command = [f"tools/{tool}", *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(command)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return set(done.stdout.splitlines()[-1].split()) & set(HEAVY)


@pytest.mark.parametrize(
    "tool",
    [
        "analysis_tools/eval_panoptic.py --gt_json_file {json} --pred_json_file {json}",
        (
            "analysis_tools/eval_panoptic.py --gt_json_file {json} --pred_json_file {json} "
            "--json {out}/all.json --per-image {out}/rows.csv --worst 2"
        ),
        "analysis_tools/eval_coco_ap.py --help",
        "dataset_converters/shapes.py {out}/shapes --train 2 --val 1",
        "dataset_converters/cache_panoptic.py {json}",
        "dataset_converters/check.py {json} --img-dir {images}",
        "dataset_converters/coco_panoptic2semantic.py {json} --style contiguous --out-dir {out}/s",
        "dataset_converters/coco_panoptic2instances.py {json} --out {out}/instances.json",
        "dataset_converters/panoptic2trainid.py {json} --out-dir {out}/ids",
    ],
)
def test_a_tool_for_files_loads_no_torch(tool, shapes_root, tmp_path):
    copy = shutil.copytree(shapes_root, tmp_path / "set")
    json_file = copy / "annotations" / "panoptic_val.json"
    places = {"json": json_file, "images": copy / "val", "out": tmp_path}
    name, *arguments = (part.format(**places) for part in tool.split(" "))
    assert not loaded_by(name, *arguments)
