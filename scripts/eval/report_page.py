"""A page as a list of parts, written as one self-contained HTML file and as Markdown.

Texts of parts may hold `code` and **bold**, nothing else; a table's cells and headings are plain.
"""

import base64
import html
import pathlib
import re
import struct
from typing import NamedTuple


SHORT = 14  # characters
LEAST_WIDTH = 640  # of a chart's image, in CSS pixels: below it the text is too small to read


class Heading(NamedTuple):
    level: int  # 2 and deeper; the page's title is 1
    text: str
    anchor: str


class Text(NamedTuple):
    text: str


class Bullets(NamedTuple):
    texts: list


class Table(NamedTuple):
    caption: str
    head: list
    rows: list  # of lists of strings; a row's first cell is its heading
    words: tuple = ()  # columns of words, set to the left; the others are numbers
    folded: bool = False  # shown on request


class Chart(NamedTuple):
    name: str  # of its file, without .png
    painter: str  # of report_charts
    data: dict  # for the painter
    alt: str
    caption: str


def inline(text):
    """HTML of a part's text."""
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", text)


def plain(text):
    return html.escape(text).replace("\n", "<br>")


def html_cell(text):
    """Short texts stay in one line; one with an interval may break before that."""
    match = re.fullmatch(r"([^()\n]+) (\([^()\n]+\))", text)
    if match:
        return " ".join(f"<span>{plain(part)}</span>" for part in match.groups())
    return f"<span>{plain(text)}</span>" if len(text) <= SHORT else plain(text)


def scrolled(inner, name):
    """Wide content scrolls by itself, with the keyboard too."""
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(name)}">\n'
            f"{inner}\n</div>")


def html_table(table):
    def kind(column):
        return ' class="words"' if column in table.words else ""

    head = "".join(f'<th scope="col"{kind(i)}>{html_cell(cell)}</th>'
                   for i, cell in enumerate(table.head))
    body = "\n".join(
        f'<tr><th scope="row">{html_cell(row[0])}</th>' +
        "".join(f"<td{kind(i)}>{html_cell(cell)}</td>" for i, cell in enumerate(row[1:], 1)) +
        "</tr>" for row in table.rows)
    name = re.sub(r"[`*]", "", table.caption)
    caption = "" if table.folded else f"<caption>{inline(table.caption)}</caption>"
    found = scrolled(f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"
                     "</table>", name)
    if not table.folded:
        return found
    return f"<details><summary>{inline(table.caption)}</summary>\n{found}\n</details>"


def png_size(data):
    return struct.unpack(">II", data[16:24])


def data_uri(data):
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def html_chart(chart, images):
    light, dark = images[chart.name]
    width, height = png_size(light)
    image = (f'<picture><source media="(prefers-color-scheme: dark)" srcset="{data_uri(dark)}">'
             f'<img src="{data_uri(light)}" width="{width // 2}" height="{height // 2}" '
             f'style="min-width: {min(width // 2, LEAST_WIDTH)}px" alt="{html.escape(chart.alt)}">'
             "</picture>")
    return (f"<figure>\n{scrolled(image, 'Chart: ' + chart.caption.split('. ')[0])}\n"
            f"<figcaption>{inline(chart.caption)}</figcaption>\n</figure>")


def html_part(part, images):
    if isinstance(part, Heading):
        return f'<h{part.level} id="{part.anchor}">{plain(part.text)}</h{part.level}>'
    if isinstance(part, Text):
        return f"<p>{inline(part.text)}</p>"
    if isinstance(part, Bullets):
        return "<ul>\n" + "\n".join(f"<li>{inline(text)}</li>" for text in part.texts) + "\n</ul>"
    if isinstance(part, Table):
        return html_table(part)
    return html_chart(part, images)


def html_contents(parts):
    """Links to the headings of levels 2 and 3."""
    lines = []
    for part in parts:
        if isinstance(part, Heading) and part.level <= 3:
            lines.append(f'<li class="level{part.level}"><a href="#{part.anchor}">'
                         f"{plain(part.text)}</a></li>")
    return '<nav aria-label="Contents">\n<ul>\n' + "\n".join(lines) + "\n</ul>\n</nav>"


def html_page(title, lead, parts, images):
    """Title, leading parts, contents, the rest. images: {chart's name: (light PNG, dark PNG)}"""
    style = pathlib.Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    body = [*(html_part(part, images) for part in lead), html_contents(parts),
            *(html_part(part, images) for part in parts)]
    return (f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{plain(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
            f"<h1>{plain(title)}</h1>\n" + "\n".join(body) + "\n</main>\n</body>\n</html>\n")


def escaped(text):
    """Markdown that shows the text as it is, in a table's cell too."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\`*|\[\]~$])", r"\\\1", text)
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text).replace("\n", "<br>")


def markdown_text(text):
    """A part's text; its code and bold are Markdown's own."""
    parts = re.split(r"(`[^`]+`|\*\*)", text)
    return "".join(part if i % 2 else escaped(part) for i, part in enumerate(parts))


def markdown_table(table):
    sides = ["---" if i == 0 or i in table.words else "--:" for i in range(len(table.head))]
    lines = [[escaped(cell) for cell in table.head], sides,
             *([escaped(cell) for cell in row] for row in table.rows)]
    return f"{markdown_text(table.caption)}\n\n" + "\n".join(
        f"| {' | '.join(line)} |" for line in lines)


def markdown_part(part):
    if isinstance(part, Heading):
        return f"{'#' * part.level} {escaped(part.text)}"
    if isinstance(part, Text):
        return markdown_text(part.text)
    if isinstance(part, Bullets):
        return "\n".join(f"- {markdown_text(text)}" for text in part.texts)
    if isinstance(part, Table):
        return markdown_table(part)
    return f"![{escaped(part.alt)}]({part.name}.png)\n\n{markdown_text(part.caption)}"


def markdown_page(title, lead, parts):
    return "\n\n".join([f"# {escaped(title)}", *map(markdown_part, [*lead, *parts])]) + "\n"
