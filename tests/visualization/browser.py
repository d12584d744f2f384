"""A real headless Chromium for the pages, and axe-core's opinion of them."""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


def find_browser():
    """Chromium and its driver, or skip the test and say what is missing."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None or find_spec("selenium") is None:
        pytest.skip(
            "needs Chromium with its driver (Debian: apt-get install chromium chromium-driver) "
            "and selenium (requirements/tests.txt)"
        )
    return chromium, driver


def open_browser(profile, more=()):
    """Start Chromium, with this machine alone as its net, with its console kept."""
    chromium, driver = find_browser()
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        "--window-size=1280,1000",
        f"--user-data-dir={profile}",
        *more,
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    options.add_experimental_option("prefs", {"download.default_directory": str(profile)})
    service = webdriver.ChromeService(executable_path=driver)
    return webdriver.Chrome(options=options, service=service)


def complaints(browser):
    """What the page wrote to its console."""
    return [entry["message"] for entry in browser.get_log("browser")]


def axe_violations(browser):
    """Faults of accessibility that axe-core finds (contrast, alternative texts, names, ...)."""
    package = find_spec("axe_playwright_python")
    if package is None:
        pytest.skip("needs axe-core: pip install --no-deps axe-playwright-python (judges.txt)")
    script = Path(package.submodule_search_locations[0]) / "axe.min.js"
    browser.execute_script(script.read_text(encoding="utf-8"))
    result = browser.execute_async_script(
        "const done = arguments[0]; axe.run().then(done, (e) => done({error: String(e)}))"
    )
    assert result["passes"], "nothing was checked"
    return [
        f"{fault['id']}: {node['html'][:120]}"
        for fault in result["violations"]
        for node in fault["nodes"]
    ]
