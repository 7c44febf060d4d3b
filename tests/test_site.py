"""The site that `make site` builds: whole, complete, and readable without a network."""

import argparse
import importlib
import inspect
import os
import re
import shutil
import subprocess
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import filelock
import pytest

import mlp_mixer
from configs import common
from mlp_mixer.cli.main import COMMANDS
from mlp_mixer.training import fields
from scripts import build_site

from .conftest import ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class Page(HTMLParser):
    """The places, links and words of a page."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids, self.links, self.loaded, self.text = set(), [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        loads = tag != "link" or found.get("rel") in ("stylesheet", "icon", "preload")
        self.loaded += [found[key] for key in ("src", "srcset", "data", "poster") if key in found]
        if tag == "link" and loads:
            self.loaded.append(found["href"])

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of the site, which one of pytest's processes builds for all."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    with filelock.FileLock(shared / "site.lock"):
        if not (shared / "site_of_all/site").exists():
            build_site.build(shared / "site_of_all")
    return shared / "site_of_all/site"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, Page]:
    return {str(path.relative_to(site)): Page(path) for path in site.rglob("*.html")}


@pytest.mark.slow
def test_every_link_of_the_site_leads_to_a_place_that_exists(site, pages):
    dead = []
    for name, page in pages.items():
        if name == "404.html":  # is shown at any address, so its links begin with the site's
            continue
        for link in [*page.links, *page.loaded]:
            if urlsplit(link).scheme:
                continue
            target, _, anchor = unquote(link).partition("#")
            path = os.path.normpath(os.path.join(os.path.dirname(name), target)) if target else name
            there = (site / path).is_file()
            if not there or (anchor and path in pages and anchor not in pages[path].ids):
                dead.append((name, link))
    assert len(pages) > 15 and sum(len(page.links) for page in pages.values()) > 500
    assert not dead


@pytest.mark.slow
def test_a_page_loads_nothing_from_another_server(site, pages):
    assert not [(name, link) for name, page in pages.items() for link in page.loaded
                if re.match(r"(\w+:)?//", link)]  # fmt: skip
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert styles and not re.search(r"(@import|url\()\W*(https?:)?//", styles)


def test_every_page_is_in_the_menu(site, pages):
    def of(menu) -> list[str]:
        if isinstance(menu, str):
            return [menu]
        return [page for part in (menu.values() if isinstance(menu, dict) else menu)
                for page in of(part)]  # fmt: skip

    menu = of(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])
    assert {page.replace(".md", ".html") for page in menu} == pages.keys() - {"404.html"}
    assert len(set(menu)) == len(menu)


def test_every_public_name_is_on_the_page_with_its_docstring(pages):
    page = pages["reference/api.html"]
    text = " ".join(page.text.split())
    for name in mlp_mixer.__all__:
        thing = getattr(mlp_mixer, name)
        functions = {member: getattr(value, "fget", value) for member, value in vars(thing).items()
                     if inspect.isclass(thing) and not member.startswith("_")}  # fmt: skip
        members = [f"{name}.{member}" for member, value in functions.items()
                   if getattr(value, "__module__", "").startswith("mlp_mixer.")
                   and inspect.isfunction(value)]  # fmt: skip
        for one in [name, *members]:
            assert f"mlp_mixer.{one}" in page.ids, one
        first = inspect.getdoc(thing).splitlines()[0].replace("`", "")
        assert first[:60] in text, name


def test_no_asterisk_of_a_docstring_is_taken_for_emphasis(site):
    for page in ("api", "commands"):
        assert "<em>" not in (site / f"reference/{page}.html").read_text()


def test_every_command_and_argument_is_on_the_page(pages):
    page = pages["reference/commands.html"]
    for name, (file, _) in COMMANDS.items():
        module, parser = importlib.import_module(f"mlp_mixer.cli.{file}"), argparse.ArgumentParser()
        module.add_arguments(parser)
        assert name in page.ids and module.__doc__.splitlines()[0] in page.text
        section = page.text[page.text.index(module.__doc__.splitlines()[0]) :]
        for line in re.findall(r"^ +(?:-h, --help|(--[\w-]+|\w+))", parser.format_help(), re.M):
            assert line in section


def test_every_config_field_is_on_the_page(pages):
    text = pages["reference/config.html"].text
    for name in fields.flatten(common.base().to_dict()):
        assert name.startswith("evals.") or f"{name} = " in text, name
    sections = {"augment": fields.AUGMENT, "model": fields.MODEL, "sweep": fields.SWEEP,
                "evals.NAME": fields.EVALUATOR}  # fmt: skip
    known = fields.FIELDS | {f"{section}.{name}": field for section, of in sections.items()
                             for name, field in of.items()}  # fmt: skip
    for name, field in known.items():
        assert re.search(rf"^{re.escape(name)}\b.*\n.*{re.escape(field.may_be[1:])}", text, re.M), (
            name
        )


def test_what_a_page_inserts_or_links_must_exist(tmp_path, monkeypatch):
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    for file in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/x.md"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("# A\n\ntext\n")
    for wrong in ("[a](b.md)", "![a](b.png)", "<!-- insert nothing -->"):
        (tmp_path / "docs/x.md").write_text(f"{wrong}\n")
        with pytest.raises(ValueError, match=r"docs/x\.md: .*(b\.md|b\.png|nothing)"):
            build_site.write_pages(tmp_path / f"out{len(wrong)}")


@pytest.mark.parametrize(("status", "said"), [(1, ""), (0, "griffe: no type for parameter x")])
def test_a_complaint_of_the_generator_is_an_error(tmp_path, monkeypatch, status, said):
    monkeypatch.setattr(build_site, "write_pages", lambda *_: tmp_path.mkdir(exist_ok=True))
    ended = subprocess.CompletedProcess([], status, said, "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(ValueError, match="the site is not whole"):
        build_site.build(tmp_path)


def test_pictures_of_other_servers_become_their_description(tmp_path, monkeypatch):
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    (tmp_path / "docs/lab").mkdir(parents=True)
    badge = "[![Open](https://example.org/a.svg)](https://example.org/a)"
    for file in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/x.md"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"# A\n\n{badge} ![a picture](https://example.org/b.png)\n")
    build_site.write_pages(tmp_path / "pages")
    page = (tmp_path / "pages/x.md").read_text()
    assert page == "# A\n\n[Open](https://example.org/a) a picture\n"


def test_links_to_code_lead_to_the_repository_or_nowhere(tmp_path):
    build_site.write_pages(tmp_path / "a", "https://example.org/o/n")
    build_site.write_pages(tmp_path / "b")
    page = "reference/config.md"
    assert (
        "(https://example.org/o/n/blob/main/configs/common.py)"
        in (tmp_path / "a" / page).read_text()
    )
    assert "comes from configs/common.py." in (tmp_path / "b" / page).read_text()


SEARCH = """
<script>
const host = () => [...document.querySelectorAll("*")].find((one) => one.shadowRoot);
setTimeout(() => document.querySelector(".md-search__button").click(), 500);
setTimeout(() => {
  const input = host().shadowRoot.querySelector("input");
  input.value = "heartbeat";
  input.dispatchEvent(new InputEvent("input", {bubbles: true}));
}, 3000);
setTimeout(() => {
  document.title = "found: " + host().shadowRoot.querySelector("ol").innerText;
}, 5000);
</script>
"""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium (apt-get install chromium)")
def test_search_works_on_a_disk_without_a_network(site, tmp_path):
    shutil.copytree(site, tmp_path / "site")
    page = tmp_path / "site/guides/search.html"
    page.write_text((site / "guides/bucket.html").read_text() + SEARCH)
    found = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/me",
         "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr",
         "--virtual-time-budget=8000", "--dump-dom", f"file://{page}"],
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    title = re.search(r"<title>(.*?)</title>", found.stdout, re.S)[1]
    assert title.startswith("found: ") and "heartbeat" in title and "In a bucket" in title
    assert "CONSOLE" not in found.stderr  # neither errors nor files that are not found
