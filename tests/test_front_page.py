"""What a visitor reads first is true: badges, citation."""

import re
from pathlib import Path

import yaml

from mmpanoptic.checkpoints.shipped_models import list_shipped_models
from mmpanoptic.version import __version__

ROOT = Path(__file__).parent.parent


def badges():
    """Label of every badge of the README, and the file that it links to."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return dict(
        re.findall(r"^\[!\[([^]]+)\]\(https://img\.shields\.io/[^)]+\)\]\(([^)]+)\)$", text, re.M)
    )


def test_badges_say_what_their_files_say():
    found = badges()
    assert len(found) == 6
    assert all((ROOT / link).exists() for link in found.values())
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    python = re.search(r'python_requires=">=([\d.]+)"', setup)[1]
    assert f"Python {python}+" in found
    assert f"PyTorch {re.search(r'torch>=([0-9.]+)', setup)[1]}+" in found
    licence = re.search(r'license="([^"]+)"', setup)[1]
    assert f"Licence {licence}" in found
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_pictures_of_the_badges_show_their_labels():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for label, picture in re.findall(
        r"\[!\[([^]]+)\]\(https://img\.shields\.io/badge/([^)]+)\)\]", text
    ):
        *words, _ = re.split(r"(?<!-)-(?!-)", picture)
        shown = " ".join(words).replace("--", "-").replace("_", " ").replace("%2B", "+")
        assert shown.lower() == label.replace(":", "").lower()


def test_no_weights_are_promised_while_there_are_none():
    trained = [
        model
        for path in (ROOT / "configs").glob("*/metafile.yml")
        for model in yaml.safe_load(path.read_text(encoding="utf-8"))["Models"]
        if any("Weights" in result for result in model.get("Results", []))
    ]
    trained += list_shipped_models()
    assert ("Trained weights: none yet" in badges()) == (not trained)


def test_the_citation_is_complete_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    assert citation["version"] == __version__
    papers = {reference["url"] for reference in citation["references"]}
    for path in (ROOT / "configs").glob("*/metafile.yml"):
        (collection,) = yaml.safe_load(path.read_text(encoding="utf-8"))["Collections"]
        assert collection["Paper"]["URL"] in papers


def test_the_readme_cites_as_the_citation_file_does():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    entry = re.search(r"```bibtex\n(.*?)```", text, re.DOTALL)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f"{{{citation['title']}}}" in entry
    assert f"{{{citation['version']}}}" in entry
    assert f"{{{citation['license']}}}" in entry


def test_what_is_said_of_mmdet_is_true_of_the_installed_one():
    from importlib.metadata import version
    from importlib.util import find_spec

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"mmdet {version('mmdet')}" in text
    folder = Path(find_spec("mmdet").origin).parent
    for name in ("panoptic_fpn", "maskformer", "mask2former"):
        assert (folder / "models/detectors" / f"{name}.py").is_file()
    metric = (folder / "evaluation/metrics/coco_panoptic_metric.py").read_text(encoding="utf-8")
    assert "import panopticapi" in metric
    assert "tempfile" in metric
