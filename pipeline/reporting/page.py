"""The Markdown report as one self-contained HTML page: it needs no network and no other files.

SVG figures are inlined, so they take on the page's text colour; other images are re-encoded as JPEG and embedded.
"""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path
from urllib.parse import unquote

from markdown_it import MarkdownIt
from PIL import Image

from pipeline.reporting.charts import INK

MAX_WIDTH = 1400  # pixels of an embedded image
QUALITY = 82

STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #ffffff; --quiet: #59636e; --rule: #d1d9e0; --tint: #f6f8fa;
        --link: #0969da; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --quiet: #9198a1; --rule: #3d444d; --tint: #151b23; --link: #4493f8; } }
@media print {
  :root { --ink: #000; --paper: #fff; --quiet: #444; --rule: #bbb; --tint: #f3f3f3; --link: #000; }
  .wide { overflow: visible; } table { font-size: 7pt; } figure, tr { break-inside: avoid; }
  nav { display: none; } h2 { break-after: avoid; } .wide th:first-child, .wide td:first-child { position: static; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
       font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { line-height: 1.2; margin: 0.5rem 0 1rem; } h2 { margin-top: 3rem; border-bottom: 1px solid var(--rule); }
p, li { max-width: 46rem; } a { color: var(--link); }
code { background: var(--tint); padding: 0.1em 0.3em; border-radius: 4px; font-size: 0.9em; overflow-wrap: anywhere; }
nav { display: flex; flex-wrap: wrap; gap: 0.3rem 1.2rem; margin: 1rem 0; }
.wide { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--rule); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 0.86rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.4rem 0.65rem; text-align: left; vertical-align: top; border-top: 1px solid var(--rule); }
thead th { border-top: 0; background: var(--tint); } tbody tr:hover td { background: var(--tint); }
.wide th:first-child, .wide td:first-child { position: sticky; left: 0; background: var(--paper); min-width: 13rem; }
.wide thead th:first-child, .wide tbody tr:hover td:first-child { background: var(--tint); }
figure { margin: 1.5rem 0; } figure svg, figure img { max-width: 100%; height: auto; display: block; }
figure svg { width: min(100%, 56rem); } .whole { white-space: nowrap; }
figure img { border-radius: 6px; background: #fff; }
figcaption { color: var(--quiet); font-size: 0.9rem; margin-top: 0.4rem; }
@media (max-width: 40rem) { body { padding: 1rem 0.7rem 3rem; font-size: 15px; } h1 { font-size: 1.6rem; } }
"""


def render(markdown: str, folder: Path) -> str:
    """Render a Markdown report whose image paths are relative to `folder`. Raw HTML in it is shown as text."""
    reader = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = reader.parse(markdown)
    sections = []
    for i, token in enumerate(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            title = tokens[i + 1].content
            token.attrSet("id", anchor(title))
            sections.append(f'<a href="#{anchor(title)}">{html.escape(title)}</a>')
        # An image alone in its paragraph becomes a figure.
        children = token.children or []
        if token.type == "inline" and [child.type for child in children] == ["image"]:
            tokens[i - 1].hidden = tokens[i + 1].hidden = True
        for child in children:
            if child.type == "image":
                child.type, child.content = "html_inline", figure(child.content, str(child.attrGet("src")), folder)
    body = reader.renderer.render(tokens, reader.options, {})
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    # Keep an interval, or a number and its unit, on one line.
    body = re.sub(r"(\([\d.,]+–[\d.,]+\))", r'<span class="whole">\1</span>', body)
    body = re.sub(r"(?<=\d) %", "\u00a0%", body)
    # Markdown aligns columns with style attributes; the page's own stylesheet does it instead.
    body = re.sub(r' style="text-align:\w+"', "", body)
    body = body.replace("</h1>", f"</h1>\n<nav>{' '.join(sections)}</nav>", 1)
    title = html.escape(
        next((tokens[i + 1].content for i, t in enumerate(tokens) if t.tag == "h1" and t.nesting == 1), "")
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def figure(caption: str, source: str, folder: Path) -> str:
    """Return a figure with its caption as HTML, the image embedded."""
    path = folder / unquote(source)
    if path.suffix == ".svg":
        svg = path.read_text(encoding="utf-8").replace(INK, "currentColor")
        image = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(caption)}" ', 1)
    else:
        image = f'<img alt="{html.escape(caption)}" src="{embedded(path)}">'
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def embedded(path: Path) -> str:
    """Return an image file as a data: URL, JPEG, at most MAX_WIDTH pixels wide."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    if image.width > MAX_WIDTH:
        image = image.resize((MAX_WIDTH, round(image.height * MAX_WIDTH / image.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
