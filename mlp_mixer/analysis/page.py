"""One HTML page that needs nothing else: text that is escaped, tables, pictures as data URIs."""

import base64
import html
import io
from collections.abc import Iterable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

SMALL = 64  # images of at most so many pixels a side are kept as they are
LARGE = 160  # most pixels a side that others have

STYLE = """\
:root { color-scheme: light; --line: #d8dce1; --soft: #5b6570; --tint: #f5f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 64px; background: white;
  color: #1b1f24; font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 28px; line-height: 1.2; margin: 8px 0; overflow-wrap: anywhere; }
h2 { font-size: 21px; margin: 44px 0 12px; padding-top: 14px; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 17px; margin: 28px 0 8px; }
p { margin: 8px 0; max-width: 75ch; overflow-wrap: anywhere; }
.soft, figcaption, summary { color: var(--soft); }
.scroll { overflow-x: auto; margin: 12px 0; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 5px 20px 5px 0;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
.facts td { white-space: normal; overflow-wrap: anywhere; min-width: 180px; }
thead th { border-bottom: 2px solid #9aa3ad; }
tbody th { font-weight: 500; color: var(--soft); }
code { font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  background: var(--tint); padding: 1px 4px; }
code, code span { word-break: break-all; }
code span { display: inline-block; }
.row { display: flex; flex-wrap: wrap; gap: 16px; align-items: flex-start; }
figure { margin: 0; max-width: 680px; }
.row > figure { flex: 1 1 340px; max-width: 560px; }
img { max-width: 100%; height: auto; display: block; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)); gap: 14px 10px;
  margin: 16px 0; }
.tiles img { width: 100%; image-rendering: pixelated; border: 3px solid #c1121f; }
.tiles figcaption { font-size: 13px; line-height: 1.3; margin-top: 4px; overflow-wrap: anywhere;
  color: inherit; }
details { margin: 12px 0; }
summary { cursor: pointer; }
@media (max-width: 600px) {
  body { padding: 12px 14px 40px; }
  .facts.one :is(table, tbody, tr, th, td) { display: block; }
  .facts.one th { border: 0; padding-bottom: 0; }
  .facts.one td { padding-top: 0; }
}
"""

# Forbids the page to fetch anything.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class Html(str):
    """Text that is HTML already, and is not escaped again."""

    __slots__ = ()


def element(name: str, *content: object, **attributes: object) -> Html:
    """Makes an element; content that is not Html is escaped, and `class_` is the class."""
    given = "".join(f' {key.rstrip("_")}="{_escaped(x)}"' for key, x in attributes.items())
    return Html(f"<{name}{given}>{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Puts parts together; those that are not Html are escaped."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def table(rows: Sequence[Sequence[object]], heads: bool = False, class_: str = "") -> Html:
    """Makes a table, which scrolls sideways where it is wider than the page.

    Args:
        rows: cells; the first row is the heading.
        heads: whether the first cell of each row heads it.
        class_: a class of the table's surroundings.
    """
    first, *rest = rows
    top = element("thead", element("tr", *(element("th", cell) for cell in first)))
    lines = [
        element("tr", *(element("th" if heads and not i else "td", x) for i, x in enumerate(row)))
        for row in rest
    ]
    parts = [*([top] if any(first) else []), element("tbody", *lines)]
    return element("div", element("table", *parts), class_=f"scroll {class_}".strip())


def details(summary: str, *content: object) -> Html:
    """Makes a part that is shown when its summary is clicked."""
    return element("details", element("summary", summary), *content)


def picture(figure: Figure, alt: str, kind: str = "png") -> Html:
    """Draws a matplotlib figure into the page, as "png" or "svg"."""
    file = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else None  # the same figure gives the same bytes
    with mpl.rc_context({"svg.hashsalt": "mlp_mixer"}):
        figure.savefig(
            file, format=kind, dpi=130, bbox_inches="tight", facecolor="white", metadata=metadata
        )
    return element("figure", _img(file, "svg+xml" if kind == "svg" else kind, alt))


def photograph(image: np.ndarray, alt: str, caption: Sequence[str]) -> Html:
    """Shows an image uint8 [h, w, 1 or 3] with the lines of a caption."""
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    file, kind = io.BytesIO(), "png" if max(shown.size) <= SMALL else "jpeg"
    shown.thumbnail((LARGE, LARGE))
    shown.save(file, kind)
    lines = [join([line, Html("<br>")]) for line in caption]
    return element("figure", _img(file, kind, alt), element("figcaption", *lines))


def page(title: str, *content: object) -> str:
    """Puts a page together."""
    head = join([
        Html('<meta charset="utf-8">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        Html('<link rel="icon" href="data:,">'),  # else a browser asks for one
        element("title", title),
        element("style", Html(STYLE)),
    ])  # fmt: skip
    whole = element("html", element("head", head), element("body", *content), lang="en")
    # Names of files may hold bytes that are not text.
    return f"<!DOCTYPE html>\n{whole}\n".encode(errors="replace").decode()


def _img(file: io.BytesIO, kind: str, alt: str) -> Html:
    data = base64.b64encode(file.getvalue()).decode()
    return Html(f'<img src="data:image/{kind};base64,{data}" alt="{_escaped(alt)}">')


def _escaped(x: object) -> str:
    return html.escape(str(x))
