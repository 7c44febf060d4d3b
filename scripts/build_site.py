"""Builds the site from docs/, README.md and the code; `make site` calls it.

    python scripts/build_site.py

The pages of docs/ are files that read well by themselves. Here they get what would otherwise be
written twice: a line `<!-- insert NAME -->` is replaced by what the code says (see INSERTS), and
`<!-- insert README.md: HEADING -->` by that section of the README. Links to files that are no pages
lead to the repository, if SITE_REPOSITORY gives its address, and are plain text otherwise.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from scripts import site_reference  # noqa: E402 - found by the line above

INSERTS = {
    "the public names": site_reference.public_names,
    "the commands": site_reference.commands,
    "the config fields": site_reference.config_fields,
}
# Files outside docs/ that are pages, too; of the README, sections are inserted.
ELSEWHERE = {"CONTRIBUTING.md": "lab/contributing.md", "CHANGELOG.md": "lab/changes.md"}
IMAGE = re.compile(r"!\[([^]]*)\]\(([^)\s]+)\)")
LINK = re.compile(r"(?<!!)\[([^][]*(?:!\[[^]]*\]\([^)]*\))?[^][]*)\]\(([^)\s]+)\)")


def main() -> None:
    try:
        said = build(ROOT / "build", os.environ.get("SITE_REPOSITORY", ""))
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(said, end="")
    print("the site is in build/site: open build/site/index.html")


def build(folder: Path, repository: str = "") -> str:
    """Writes the pages to FOLDER/pages and the site to FOLDER/site.

    Args:
        folder: where both go; what they held before is deleted.
        repository: address such as https://github.com/OWNER/NAME, for links to files of the code.

    Returns:
        What the site generator said.

    Raises:
        ValueError: a link leads nowhere, or the generator has a complaint.
    """
    for part in ("pages", "site"):
        shutil.rmtree(folder / part, ignore_errors=True)
    write_pages(folder / "pages", repository)
    config = (ROOT / "zensical.toml").read_text()
    if found := re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+)", repository):
        address = f"https://{found[1]}.github.io/{found[2]}/"  # GitHub Pages; for 404.html
        config = config.replace("[project]\n", f'[project]\nsite_url = "{address}"\n', 1)
    (folder / "zensical.toml").write_text(config)
    generator = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    said = generator.stdout + generator.stderr
    if generator.returncode or "griffe: " in said:  # of docstrings, which --strict does not count
        raise ValueError(f"the site is not whole:\n{said}")
    return said


def write_pages(folder: Path, repository: str = "") -> None:
    """Writes the pages as the site generator takes them, and copies pictures, styles and scripts.

    Raises:
        ValueError: a link leads nowhere, or there is nothing to insert by some name.
    """
    shutil.copytree(ROOT / "docs", folder)
    page_of = {f"docs/{path.relative_to(folder)}": str(path.relative_to(folder))
               for path in folder.rglob("*.md")}  # fmt: skip
    page_of |= ELSEWHERE
    for file, page in page_of.items():

        def relinked(text: str, written_in: str, page: str = page) -> str:
            return _relinked(text, written_in, page, page_of, repository)

        text = relinked((ROOT / file).read_text(), file)
        for line, what in re.findall(r"^(<!-- insert (.+) -->)$", text, re.M):
            if what.startswith("README.md: "):
                made = relinked(readme(what.removeprefix("README.md: ")), "README.md")
            elif what in INSERTS:
                made = relinked(INSERTS[what](), file)
            else:
                raise ValueError(f"{file}: there is nothing to insert by the name {what!r}")
            text = text.replace(line, made)
        (folder / page).write_text(text)


def readme(heading: str) -> str:
    """Returns the text below a heading of the README."""
    parts = re.split(r"^##? (.+)\n", (ROOT / "README.md").read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading].strip()


def _relinked(
    text: str, written_in: str, page: str, page_of: dict[str, str], repository: str
) -> str:
    """Returns a text with the links of the file it was written in turned into those of a page."""

    def target(found: str) -> str | None:
        """Where a link leads on the page; None if to a file that the site does not have."""
        if re.match(r"\w+:|#", found):
            return found
        path, _, anchor = found.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(written_in), path))
        if not (ROOT / path).exists():
            raise ValueError(f"{written_in}: a link leads to {path}, which does not exist")
        place = page_of.get(path) or {"README.md": "index.md"}.get(path)
        if place is None and path.startswith("docs/"):
            place = path.removeprefix("docs/")
        if place is None:
            return f"{repository}/blob/main/{path}" if repository else None
        return os.path.relpath(place, os.path.dirname(page) or ".") + (anchor and f"#{anchor}")

    def image(match: re.Match) -> str:
        """An image of another server becomes its description: a page fetches nothing."""
        return match[1] if "://" in match[2] else f"![{match[1]}]({target(match[2])})"

    def link(match: re.Match) -> str:
        to = target(match[2])
        return f"[{match[1]}]({to})" if to else match[1]

    # Not in fenced blocks, whose brackets are code.
    parts = re.split(r"(^```.*?^```)", text, flags=re.M | re.S)
    parts[::2] = [LINK.sub(link, IMAGE.sub(image, part)) for part in parts[::2]]
    return "".join(parts)


if __name__ == "__main__":
    main()
