"""The report in a real browser, without any network."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome on PATH"),
]
# it would call home by itself when it starts
QUIET = ("--no-first-run", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND")
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
SECONDS = 240


class Dom(HTMLParser):
    """Cells of each table by its id, and attributes of its column headers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.heads: dict[str, list[dict[str, str | None]]] = {}
        self.num_buttons = 0
        self.rows: list[list[str]] = []
        self.in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            name = dict(attrs)["id"] or ""
            self.rows = self.tables[name] = []
            self.own = self.heads[name] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True
            if dict(attrs).get("scope") == "col":
                self.own.append(dict(attrs))
        elif tag == "button":
            self.num_buttons += 1

    def handle_endtag(self, tag: str) -> None:
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self.in_cell:
            self.rows[-1][-1] += data


def browse(page: Path, home: Path, *options: str) -> str:
    """What the browser prints about a page."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", *QUIET]
    command += [f"--user-data-dir={home}", "--virtual-time-budget=5000", *options, page.as_uri()]
    # its children would keep the pipe open if it were killed alone
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            out, _ = process.communicate(timeout=SECONDS)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0
    return out.decode()


def with_script(page: Path, script: str, copy: Path) -> Path:
    """A copy of the page, without its policy, that also runs this."""
    text, found = POLICY.subn("", page.read_text(encoding="utf-8"))
    assert found == 1
    copy.write_text(text.replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    return copy


@pytest.fixture(scope="module")
def page(whole_report: Path) -> Path:
    return whole_report


@pytest.fixture(scope="module")
def dom(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Dom:
    return Dom(browse(page, tmp_path_factory.mktemp("home"), "--dump-dom"))


def test_every_header_of_several_rows_is_a_button_by_its_own_script(dom: Dom) -> None:
    several = [name for name, rows in dom.tables.items() if len(rows) > 2]
    assert dom.num_buttons == sum(len(dom.heads[name]) for name in several) > 100
    assert all("aria-sort" not in head for heads in dom.heads.values() for head in heads)


def test_without_scripts_all_tables_are_there(page: Path, dom: Dom, tmp_path: Path) -> None:
    copy = tmp_path / "no_scripts.html"
    text = POLICY.sub("", page.read_text(encoding="utf-8"))
    policy = '<meta http-equiv="Content-Security-Policy" content="script-src \'none\'">'
    copy.write_text(text.replace("<head>", f"<head>{policy}"), encoding="utf-8")
    bare = Dom(browse(copy, tmp_path / "home", "--dump-dom"))
    assert bare.num_buttons == 0
    assert bare.tables == dom.tables
    assert len(bare.tables) > 30


def test_a_header_sorts_up_down_and_back(page: Path, dom: Dom, tmp_path: Path) -> None:
    clicks = """
    const click = (name, column, times) => {
      const button = document.querySelectorAll(`#${name} thead button`)[column];
      for (let i = 0; i < times; i++) button.click();
    };
    click("table-metrics_spottune", 2, 1);
    click("table-metrics_random", 2, 2);
    click("table-metrics_transfer", 2, 3);
    click("table-operating_points", 6, 1);
    click("table-metrics_spottune", 0, 0);
    """
    copy = with_script(page, clicks, tmp_path / "sorted.html")
    after = Dom(browse(copy, tmp_path / "home", "--dump-dom"))

    def aucs(name: str, of: Dom) -> list[float]:
        return [float(row[2].split()[0]) for row in of.tables[name][1:]]

    up, down, back = (f"table-metrics_{n}" for n in ("spottune", "random", "transfer"))
    assert aucs(up, after) == sorted(aucs(up, dom)) != aucs(up, dom)
    assert aucs(down, after) == sorted(aucs(down, dom), reverse=True) != aucs(down, dom)
    assert aucs(back, after) == aucs(back, dom)
    orders = [after.heads[name][2].get("aria-sort") for name in (up, down, back)]
    assert orders == ["ascending", "descending", None]
    # what is not defined comes last
    ppv = [row[6] for row in after.tables["table-operating_points"][1:]]
    assert 0 < ppv.count("–") < len(ppv)
    assert {*ppv[-ppv.count("–") :]} == {"–"}


def test_the_page_asks_for_nothing_from_outside(page: Path, tmp_path: Path) -> None:
    listing = """
    addEventListener("load", () => {
      const names = performance.getEntriesByType("resource").map((entry) => entry.name);
      document.title = names.filter((name) => !name.startsWith("data:")).join(" ") || "nothing";
    });
    """
    copy = with_script(page, listing, tmp_path / "listed.html")
    assert "<title>nothing</title>" in browse(copy, tmp_path / "home", "--dump-dom")
    picture = '<img src="http://127.0.0.1:9/x.png">'
    copy.write_text(copy.read_text(encoding="utf-8").replace("</main>", f"{picture}</main>"))
    shown = browse(copy, tmp_path / "home", "--dump-dom")
    assert "<title>http://127.0.0.1:9/x.png</title>" in shown


def test_its_policy_would_stop_what_is_not_its_own(page: Path, tmp_path: Path) -> None:
    foreign = "<script>document.title = 'owned'</script><img src='https://example.org/x.png'>"
    copy = tmp_path / "foreign.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</main>", f"{foreign}</main>"))
    shown = browse(copy, tmp_path / "home", "--dump-dom")
    assert "<title>owned</title>" not in shown
    assert Dom(shown).num_buttons > 100


def test_it_prints_and_needs_no_sideways_scrolling_at_500_pixels(
    page: Path, tmp_path: Path
) -> None:
    pdf = tmp_path / "report.pdf"
    browse(page, tmp_path / "home", f"--print-to-pdf={pdf}", "--no-pdf-header-footer")
    assert pdf.read_bytes().startswith(b"%PDF")
    assert pdf.stat().st_size > 100_000
    measure = "document.title = document.documentElement.scrollWidth + ' of ' + innerWidth;"
    copy = with_script(page, measure, tmp_path / "narrow.html")
    shown = browse(copy, tmp_path / "home", "--window-size=500,900", "--dump-dom")
    found = re.search(r"<title>(\d+) of (\d+)</title>", shown)
    assert found is not None
    assert int(found[1]) <= int(found[2]) <= 500
