"""The documentation builds, and every link, path and name in it leads somewhere; no network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from mmengine.registry import init_default_scope

from mmpanoptic.registry import register_all_modules, registries
from tests.visualization.browser import find_browser, open_browser

ROOT = Path(__file__).parent.parent
DOCS = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
PAGES = sorted([*ROOT.glob("*.md"), *DOCS, *(ROOT / "configs").rglob("*.md")])
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # it names what is gone
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


class Page(HTMLParser):
    """What an HTML page has and loads: ids, links, and files of the page itself."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loaded = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[key] for key in ("id", "name") if key in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        self.loaded += [values["src"]] if "src" in values else []
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The pages as HTML, by path; a warning fails."""
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("html")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run([*command, "docs", str(out)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {path: Page(path.read_text(encoding="utf-8")) for path in out.rglob("*.html")}


def test_the_model_zoo_fits_into_a_window_of_1300_pixels(built, tmp_path):
    find_browser()
    (page,) = (path for path in built if path.name == "model_zoo.html")
    browser = open_browser(tmp_path / "profile")
    try:
        browser.set_window_size(1300, 900)
        browser.get(page.as_uri())
        script = "const z = document.querySelector('.zoo'); return [z.scrollWidth, z.clientWidth]"
        content, window = browser.execute_script(script)
    finally:
        browser.quit()
    assert content <= window


def test_the_documentation_builds_without_a_warning(built):
    names = {path.name for path in built}
    assert {f"{page.stem}.html" for page in DOCS} <= names


def test_every_internal_link_and_anchor_of_the_pages_exists(built):
    broken = []
    for path, page in built.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (
                anchor and target in built and anchor not in built[target].ids
            ):
                broken.append(f"{path.name}: {link}")
    assert not broken


def test_addresses_are_well_formed(built):
    links = {link for page in built.values() for link in page.links if urlsplit(link).scheme}
    assert links
    for link in links:
        parts = urlsplit(link)
        assert parts.scheme == "https" or link.startswith("mailto:"), link
        assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), link
        assert not re.search(r"\s|[<>\"{}]", link), link


def test_pages_load_nothing_from_elsewhere(built):
    foreign = {url for page in built.values() for url in page.loaded if urlsplit(url).netloc}
    assert not foreign
    assert any("copybutton" in url for page in built.values() for url in page.loaded)


def test_every_registered_part_is_documented_with_its_options(built):
    register_all_modules()
    init_default_scope("mmpanoptic")
    documented = {name for page in built.values() for name in page.ids}
    parts = [
        part
        for registry in registries()
        for part in registry.module_dict.values()
        if part.__module__.startswith("mmpanoptic.")
    ]
    assert len(parts) > 90
    for part in parts:
        *rooms, _ = part.__module__.split(".")
        names = {f"{part.__module__}.{part.__name__}", ".".join([*rooms, part.__name__])}
        assert names & documented, f"{part.__module__}.{part.__name__} is on no page"
    assert "mmpanoptic.apis.PanopticInferencer.__call__" in documented


@each_page
def test_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    folders = "tools|configs|tests|docs|examples|mmpanoptic|requirements"
    named = re.findall(
        rf"(?<![\w./-])(?:{folders})/[\w./-]+\.(?:py|sh|md|yml|png|jpg|json|txt)\b", text
    )
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@each_page
def test_configs_that_a_page_names_exist(page):
    text = re.sub(r"\[[^]]*\]\(https?://[^)]*\)", "", page.read_text(encoding="utf-8"))
    names = set(re.findall(r"\b[a-z0-9-]+_[\w.-]*_\d+xb\d+-[\w-]+", text))
    stems = {path.stem for path in (ROOT / "configs").rglob("*.py")}
    assert {name.removesuffix(".py") for name in names} <= stems


@each_page
def test_relative_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def slugs(path):
    """Anchors of the headings of a Markdown file."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", r"\1", heading)
        yield re.sub(r"[^\w -]", "", plain.lower()).replace(" ", "-")


@each_page
def test_anchors_that_a_page_names_exist(page):
    links = re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8"))
    for path, anchor in links:
        assert anchor in set(slugs(page.parent / path if path else page)), f"{path}#{anchor}"
