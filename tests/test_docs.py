import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "configs").rglob("*.md")]
)
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it names what is gone
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def test_the_documentation_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*command, "docs", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@each_page
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:tools|configs|tests|docs)/[\w./-]+\.(?:py|sh|md|yml|png)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@each_page
def test_configs_that_a_page_names_exist(page):
    names = set(
        re.findall(r"\b[a-z0-9-]+_[\w.-]*_\d+xb\d+-[\w-]+", page.read_text(encoding="utf-8"))
    )
    stems = {path.stem for path in (ROOT / "configs").rglob("*.py")}
    assert {name.removesuffix(".py") for name in names} <= stems


@each_page
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing
