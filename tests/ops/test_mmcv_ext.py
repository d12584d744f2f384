from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mmpanoptic.ops.backends import full_mmcv_installed
from mmpanoptic.ops.mmcv_ext import IMPLEMENTED

USE = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])
print(nms(boxes, torch.tensor([0.1, 0.2]), 0.5)[1].tolist())
"""

lite_only = pytest.mark.skipif(full_mmcv_installed(), reason="about mmcv-lite")


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")


def test_installing_imports_neither_torch_nor_mmcv():
    code = (
        "import sys, mmpanoptic; print([m for m in ('torch', 'mmcv', 'numpy') if m in sys.modules])"
    )
    assert run(code)[0] == "[]"


def test_installing_twice_adds_one_finder():
    code = (
        "import sys, mmpanoptic, mmpanoptic.ops as o; n = len(sys.meta_path); o.install(); "
        "print(len(sys.meta_path) - n)"
    )
    assert run(code)[0] == "0"


@pytest.mark.parametrize(
    "before",
    ["import mmpanoptic", "import mmcv; import mmpanoptic", "import mmdet; import mmpanoptic"],
)
def test_operators_work_whatever_was_imported_first(before):
    assert run(f"{before}\n{USE}")[0] == "[1]"


def test_mmdet_models_import_after_mmpanoptic():
    run("import mmdet, mmpanoptic, mmdet.models, mmcv.ops")


@lite_only
def test_a_failed_import_before_does_no_harm():
    code = (
        "try:\n    import mmcv.ops\n    raise SystemExit('mmcv-lite has operators now?')\n"
        f"except ModuleNotFoundError:\n    pass\nimport mmpanoptic\n{USE}"
    )
    assert run(code)[0] == "[1]"


@lite_only
def test_a_full_mmcv_wins(tmp_path):
    (tmp_path / "_ext.py").write_text("MARK = 'compiled'\n")
    code = (
        f"import mmpanoptic, mmcv; mmcv.__path__.append({str(tmp_path)!r}); "
        "import mmcv._ext; print(mmcv._ext.MARK); "
        "from mmpanoptic.ops import backend; print(backend('nms'), backend('ball_query_forward'))"
    )
    assert run(code)[:2] == ["compiled", "mmcv mmcv"]


@lite_only
def test_other_operators_name_themselves_and_the_remedy():
    import torch
    from mmcv.ops import bbox_overlaps, get_compiler_version

    from mmpanoptic.ops import MissingOperatorError

    boxes = torch.tensor([[0.0, 0, 1, 1]])
    with pytest.raises(MissingOperatorError, match=r"'bbox_overlaps'.*mim install mmcv==") as info:
        bbox_overlaps(boxes, boxes)
    assert isinstance(info.value, RuntimeError)
    assert info.value.operator == "bbox_overlaps"
    assert get_compiler_version() == "n/a"  # mmcv's collect_env asks for it


@lite_only
def test_the_module_has_no_special_attributes_made_up():
    import mmcv._ext

    assert not hasattr(mmcv._ext, "__wrapped__")


def test_the_documentation_says_who_needs_each_operator():
    page = Path(__file__).parents[2] / "docs" / "operators.md"
    rows = re.findall(r"^\| `(\w+)`[^|]*\|[^|]*\| (.+) \|$", page.read_text(), re.MULTILINE)
    provided = {re.sub(r"_(forward|backward\w*)$", "", name) for name in IMPLEMENTED}
    assert {name for name, _ in rows} == provided
