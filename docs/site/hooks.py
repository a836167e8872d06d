"""Hooks of the site: files outside docs/ as pages, patterns in the nav, rows in the search.

A file outside docs/ that a page links to becomes a page below `repository/`, under its own path:
Markdown as it is, anything else as highlighted text with a link to the file itself. So links that
are right in the repository, and on its forge, are right on the site too, also without a network.

A table's row that begins with a key, an event or another name has an anchor, and is a
result of the search of its own: a search for `budget_ms` ends at its row, not above its table.
"""

from __future__ import annotations

import html
import importlib.metadata
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PREFIX = "repository/"
ALWAYS = ("*.md", "examples/**/*.*", "benchmarks/*.md")
"""Files that are pages whether or not a page links to them."""
BINARY = {".png", ".jpg", ".bin", ".onnx", ".xml"}
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".cfg": "ini"}
BOOST = (
    ("howto/README.md", 0.3),
    ("reference/README.md", 0.3),
    ("index.md", 0.5),
    ("repository/CHANGELOG.md", 0.2),
    ("repository/README.md", 0.4),
    ("repository/CONTRIBUTING.md", 1.5),
    ("repository/", 0.3),
    ("explanation/decisions/", 0.4),
    ("reference/config_changes.md", 0.4),
    ("tutorial/", 0.8),
    ("howto/extend.md", 1.3),
    ("howto/release.md", 0.5),
    ("howto/", 2.0),
    ("troubleshooting", 2.0),
    ("readers/", 1.5),
)
"""Weight of a page in the search, by the beginning of its path; the first that fits."""

_rows: list[dict[str, Any]] = []
"""Entries of the search index for rows, of this build."""

_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_ROW = re.compile(
    r'<h[1-6] id="(?P<section>[^"]+)"[^>]*>(?P<heading>.*?)(?:<a |</h)'
    r"|<thead>\s*<tr>\s*<th[^>]*>(?P<head>.*?)</th>"
    r"|<tr>\s*<td[^>]*>(?P<first>.*?)</td>.*?</tr>",
    re.DOTALL,
)
_CELL = re.compile(r"<td[^>]*>(.*?)</td>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")
_ID = re.compile(r' id="([^"]+)"')
_FENCE = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    """Put the version into the footer."""
    text = (ROOT / "edgeinspect" / "__init__.py").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.+?)"', text, flags=re.MULTILINE)
    if version is None:
        raise PluginError("edgeinspect/__init__.py does not name its version")
    _rows.clear()
    config.mdx_configs["toc"]["slugify"] = _slug
    config.copyright = f"edgeinspect {version[1]} · licence Apache-2.0"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside docs/, then replace `*` in the nav."""
    wanted = {path for pattern in ALWAYS for path in ROOT.glob(pattern) if _is_source(path)}
    read: set[Path] = set()
    pages = [DOCS / file.src_uri for file in files.documentation_pages()]
    while pages or (wanted - read):
        for page in [*pages, *(wanted - read)]:
            read.add(page)
            if page.suffix == ".md":
                wanted |= set(_linked_outside(page))
        pages = []
    for path in sorted(wanted):
        for file in _files_of(path, config):
            files.append(file)
    config.nav = _expanded(config.nav, files)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links into the site, and set the weight in the search."""
    uri = page.file.src_uri
    for start, boost in BOOST:
        if uri.startswith(start):
            page.meta.setdefault("search", {}).setdefault("boost", boost)
            break
    source = ROOT / uri.removeprefix(PREFIX) if uri.startswith(PREFIX) else DOCS / uri
    if source.suffix != ".md" or not source.exists():
        return markdown

    def link(match: re.Match[str]) -> str:
        target = _target(source, match[2])
        if target is None:
            return match[0]
        where = _uri(target)
        return f"{match[1]}{os.path.relpath(where, os.path.dirname(uri) or '.')}{match[3]}"

    return "".join(part if is_code else _LINK.sub(link, part) for part, is_code in _parts(markdown))


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Give rows of tables their anchors.

    A pipe in code in a table needs its backslash on a forge; here it would be shown.
    """
    content = re.sub(
        r"(?<=<td>)<code>[^<]*</code>", lambda code: code[0].replace("\\|", "|"), content
    )
    taken = set(_ID.findall(content))
    is_reference = page.file.src_uri.startswith("reference/")
    section = heading = head = ""

    def mark(match: re.Match[str]) -> str:
        nonlocal section, heading, head
        if match["section"]:
            section, heading = match["section"], _text(match["heading"])
            return match[0]
        if match["head"] is not None:
            head = _text(match["head"])
            return match[0]
        name = _text(match["first"])
        is_named = match["first"].startswith(("<code>", "<strong>")) or is_reference
        if not name or len(name) > 60 or not is_named:
            return match[0]
        title = f"{head} {name}" if name.isdecimal() else name
        anchor = re.sub(r"[^\w.-]+", "-", title).strip("-")
        anchor = next(
            each
            for each in (anchor, f"{section}-{anchor}", *(f"{anchor}-{n}" for n in range(2, 999)))
            if each not in taken
        )
        taken.add(anchor)
        cells = [head, heading, *map(_text, _CELL.findall(match[0])[1:])]
        text = " · ".join(cell for cell in cells if cell)
        row = {"location": f"{page.url}#{anchor}", "title": title, "text": html.escape(text)}
        if boost := page.meta.get("search", {}).get("boost"):
            row["boost"] = boost
        _rows.append(row)
        link = f'<a class="headerlink" href="#{anchor}" title="Link to this row">¶</a>'
        return (
            match[0].replace("<tr>", f'<tr id="{anchor}">', 1).replace("</td>", f"{link}</td>", 1)
        )

    return _ROW.sub(mark, content)


def _text(cell: str) -> str:
    """Return a cell's text."""
    return html.unescape(_TAG.sub("", cell)).strip()


@event_priority(-50)  # after the search plugin, before `offline` copies the index
def on_post_build(config: MkDocsConfig) -> None:
    """Add the rows to the search index, and remove what a site in a folder does not need."""
    site = Path(config.site_dir)
    for unused in (
        *site.glob("sitemap.xml*"),
        site / "404.html",
        *site.rglob("*.js.map"),
        *site.rglob("*.css.map"),
    ):
        unused.unlink()
    shutil.rmtree(site / "assets" / "javascripts" / "lunr")  # other languages
    theme = importlib.metadata.distribution("mkdocs-material")
    licence = next(file for file in theme.files or () if file.name == "LICENSE")
    (site / "assets" / "LICENSE.txt").write_text(licence.read_text(encoding="utf-8"))
    path = site / "search" / "search_index.json"
    index = json.loads(path.read_text(encoding="utf-8"))
    index["docs"] += _rows
    path.write_text(json.dumps(index, separators=(",", ":")), encoding="utf-8")


def _slug(heading: str, separator: str) -> str:
    """Return a heading's anchor, the same as on a forge, where the pages are read too."""
    return re.sub(r"[^\w\- ]", "", html.unescape(heading).lower().replace("·", "")).replace(
        " ", separator
    )


def _parts(markdown: str) -> Iterator[tuple[str, bool]]:
    """Split a page into prose and fenced code."""
    end = 0
    for fence in _FENCE.finditer(markdown):
        yield markdown[end : fence.start()], False
        yield fence[0], True
        end = fence.end()
    yield markdown[end:], False


def _target(page: Path, link: str) -> Path | None:
    """Return the file that a link of a page means, or None for the internet."""
    if re.match(r"[a-z]+:", link):
        return None
    path = Path(os.path.normpath(page.parent / link))
    if path.is_dir():
        path = path / "README.md"
    return path if path.is_relative_to(ROOT) else None


def _uri(path: Path) -> str:
    """Return a file's place in the site's sources."""
    if path.is_relative_to(DOCS):
        return str(path.relative_to(DOCS))
    name = PREFIX + str(path.relative_to(ROOT))
    return name if path.suffix in {".md", *BINARY} else name + ".md"


def _linked_outside(page: Path) -> Iterator[Path]:
    for part, is_code in _parts(page.read_text(encoding="utf-8")):
        for match in () if is_code else _LINK.finditer(part):
            target = _target(page, match[2])
            if target is not None and not target.is_relative_to(DOCS) and target.is_file():
                yield target


def _is_source(path: Path) -> bool:
    return path.is_file() and path.parent.name != "__pycache__"  # an example may have been run


def _files_of(path: Path, config: MkDocsConfig) -> Iterator[File]:
    """Yield a file outside docs/ as it is, and as a page."""
    name = str(path.relative_to(ROOT))
    if path.suffix == ".md":
        yield File.generated(config, _uri(path), content=path.read_text(encoding="utf-8"))
        return
    yield File.generated(config, PREFIX + name, abs_src_path=str(path))
    if path.suffix in BINARY:
        return
    text = path.read_text(encoding="utf-8")
    fence = "`" * 6
    language = LANGUAGES.get(path.suffix, "text")
    yield File.generated(
        config,
        _uri(path),
        content=f"# {name}\n\n[Download this file]({path.name}){{: download }}\n\n"
        f"{fence}{language}\n{text}\n{fence}\n",
    )


def _expanded(nav: list[Any], files: Files) -> list[Any]:
    """Return the nav with the pages that a pattern stands for, by title.

    `folder/*` stands for the pages of a folder, `folder/**` for those below it too, each without
    those that the nav names, or that a pattern before it stood for. A section without pages is
    left out.
    """
    pages = {file.src_uri: file for file in files.documentation_pages()}
    taken = set(_named(nav))

    def expand(items: list[Any]) -> list[Any]:
        out: list[Any] = []
        for item in items:
            if isinstance(item, dict):
                for title, value in item.items():
                    inner = expand(value) if isinstance(value, list) else value
                    out += [{title: inner}] if inner else []
            elif item.endswith("*"):
                below = re.compile(
                    re.escape(item.rstrip("*")) + (".+" if "**" in item else "[^/]+")
                )
                found = {uri for uri in pages if below.fullmatch(uri)} - taken
                taken.update(found)
                out += sorted(found, key=lambda uri: (not _is_index(uri), _title(pages[uri])))
            else:
                out.append(item)
        return out

    return expand(nav)


def _is_index(uri: str) -> bool:
    return uri.endswith(("/README.md", "/index.md"))


def _named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _named(item)


def _title(file: File) -> str:
    first = re.search(r"^# (.+)$", file.content_string, flags=re.MULTILINE)
    return first[1].casefold() if first else file.src_uri
