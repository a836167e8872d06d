"""Check spelling and prose of the documentation and of the program's messages: `make lint-docs`.

    python docs/style/lint.py                    everything
    python docs/style/lint.py docs/howto/hmi.md  some pages
    python docs/style/lint.py --external         list the links to the internet, by page

The rules are YAML files beside this one, in the format of Vale, with its vocabulary: whoever has
Vale runs them with `vale docs README.md`. Vale itself is one binary that no package registry has,
so this runs the kinds of rules that are used here: existence, substitution, occurrence,
repetition, and spelling by hunspell. The exit code is 1 if a rule is broken, 69 without hunspell.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
STYLE = Path(__file__).resolve().parent
VOCABULARY = STYLE / "config" / "vocabularies" / "edgeinspect" / "accept.txt"
EXIT_UNAVAILABLE = 69

_NOT_PROSE = re.compile(
    r"<!--.*?-->"
    r"|^(?P<fence>```+|~~~+).*?^(?P=fence)[ \t]*$"
    r"|^::: .*\n(?:[ \t]+.*\n|\n(?=[ \t]))*"  # mkdocstrings and its options
    r"|(?P<tick>`+)(?!`).+?(?<!`)(?P=tick)(?!`)"
    r"|\]\([^)]*\)|\]\[[^\]]*\]"
    r"|https?://[^\s)>|]+"
    r"|[\w./-]+\.(?:md|py|ya?ml|json|service)\b"
    r"|(?<!\w)--[a-z][\w-]*"
    r"|\{[:.#][^}\n]*\}"
    r"|</?[a-z][^>\n]*>"
    r"|&[a-z]+;|&#\d+;"
    r"|^\|[-:| ]+\|$",
    re.DOTALL | re.MULTILINE,
)
_BREAK = re.compile(
    r"\n[ \t]*\n|\n(?=[ \t]*(?:[-*>#|]|\d+\.)[ \t])|\||(?<=[.!?:;])[\"')*_]*\s+(?=\S)"
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_IDENTIFIER = re.compile(r"\S*(?:[\w)]\(|[a-z_]\.[a-z_]|_|\d|/|=|@|\\|%|::|~)\S*")


@dataclass(frozen=True)
class Text:
    """Something to check: its place, and its prose at the same offsets as in its source."""

    path: Path
    first_line: int
    raw: str
    prose: str

    def line(self, offset: int) -> int:
        """Return the line of an offset."""
        return self.first_line + self.raw.count("\n", 0, offset)


@dataclass(frozen=True)
class Finding:
    """One broken rule."""

    path: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """Return it as a line that an editor can follow."""
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.rule}: {self.message}"


# -- texts ---------------------------------------------------------------------------------


def pages() -> list[Path]:
    """Return every page of the project."""
    folders = ("docs", "examples", "engines", "benchmarks")
    found = [
        *ROOT.glob("*.md"),
        *(path for name in folders for path in (ROOT / name).rglob("*.md")),
    ]
    return sorted(found)


def sources() -> list[Path]:
    """Return the modules whose messages and docstrings are read by people."""
    return sorted((ROOT / "edgeinspect").rglob("*.py"))


def blank(match: re.Match[str]) -> str:
    """Return as many blanks, with the line breaks."""
    return re.sub(r"[^\n]", " ", match[0])


def page_text(path: Path) -> Text:
    """Return a page."""
    raw = path.read_text(encoding="utf-8")
    return Text(path, 1, raw, _NOT_PROSE.sub(blank, raw))


_NOT_DOCSTRING = re.compile(
    r"\bSource: .*?(?=\n[ ]*\n|\Z)"  # titles and authors
    r"|^[ ]*\w+(?=: )",  # an argument's or an error's name
    re.DOTALL | re.MULTILINE,
)


def source_texts(path: Path) -> Iterator[Text]:
    """Yield a module's docstrings, error messages and help texts."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        for string in _strings(node):
            raw = string.value
            prose = _NOT_DOCSTRING.sub(blank, _NOT_PROSE.sub(blank, raw))
            yield Text(path, string.lineno, raw, prose)


def _strings(node: ast.AST) -> Iterator[Any]:
    if isinstance(node, ast.Raise) and node.exc is not None:
        yield from _constants(node.exc)
    is_help = isinstance(node, ast.keyword) and node.arg in {"help", "short_help", "epilog"}
    if is_help or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
        yield from _constants(node.value)


def _constants(node: ast.AST) -> Iterator[Any]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str) and " " in each.value:
            yield each


# -- rules ---------------------------------------------------------------------------------


def rules() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every rule by its name."""
    for path in sorted((STYLE / "edgeinspect").glob("*.yml")):
        yield path.stem, yaml.safe_load(path.read_text(encoding="utf-8"))


def check(text: Text, name: str, rule: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a rule finds in a text."""
    kind = rule["extends"]
    if kind == "spelling":
        return
    for offset, words in _KINDS[kind](text.raw if rule.get("scope") == "raw" else text.prose, rule):
        message = rule["message"]
        for word in words[: message.count("%s")]:
            message = message.replace("%s", word, 1)
        yield Finding(text.path, text.line(offset), name, message)


def _pattern(inner: str, rule: dict[str, Any]) -> re.Pattern[str]:
    flags = re.IGNORECASE if rule.get("ignorecase") else 0
    edge = "" if rule.get("nonword") else r"\b"
    return re.compile(f"{edge}(?:{inner}){edge}", flags)


def _existence(text: str, rule: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    for match in _pattern("|".join(rule["tokens"]), rule).finditer(text):
        yield match.start(), [match[0]]


def _substitution(text: str, rule: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    for wrong, right in rule["swap"].items():
        for match in _pattern(wrong, rule).finditer(text):
            yield match.start(), [right, match[0]]


def _repetition(text: str, rule: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    for match in re.finditer(r"(?<![\w-])([A-Za-z]+)\s+\1(?![\w-])", text):
        yield match.start(), [match[1]]


def _occurrence(text: str, rule: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    start = 0
    ends = [*((match.start(), match.end()) for match in _BREAK.finditer(text)), (len(text),) * 2]
    for end, after in ends:
        sentence = text[start:end]
        if len(re.findall(rule["token"], sentence)) > rule["max"]:
            yield start + len(sentence) - len(sentence.lstrip()), []
        start = after


_KINDS = {
    "existence": _existence,
    "substitution": _substitution,
    "repetition": _repetition,
    "occurrence": _occurrence,
}


# -- spelling ------------------------------------------------------------------------------


def words(text: Text) -> Iterator[tuple[int, str]]:
    """Yield the words that a dictionary can know: no identifiers, paths, units, acronyms."""
    prose = _IDENTIFIER.sub(blank, text.prose)
    for match in _WORD.finditer(prose):
        word = re.sub(r"['’]s?$", "", match[0]).replace("’", "'")
        if len(word) > 1 and not re.search(r"[A-Z].*[A-Z]|[a-z][A-Z]", word) and word.isascii():
            yield match.start(), word


def accepted() -> re.Pattern[str]:
    """Return a pattern of the project's own vocabulary."""
    lines = VOCABULARY.read_text(encoding="utf-8").splitlines()
    return re.compile("|".join(line for line in lines if line and not line.startswith("#")))


def unknown(all_words: Iterable[str]) -> set[str]:
    """Return the words that neither hunspell nor the vocabulary knows."""
    own = accepted()
    asked = sorted({word for word in all_words if not own.fullmatch(word)})
    done = subprocess.run(
        ["hunspell", "-d", "en_GB", "-l"],
        input="\n".join(asked),
        capture_output=True,
        text=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin"},
    )
    return set(done.stdout.split())


def spelling(texts: list[Text], rule: dict[str, Any]) -> Iterator[Finding]:
    """Yield the misspelled words of all texts."""
    found = [(text, offset, word) for text in texts for offset, word in words(text)]
    wrong = unknown(word for _text, _offset, word in found)
    for text, offset, word in found:
        if word in wrong:
            message = rule["message"].replace("%s", word)
            yield Finding(text.path, text.line(offset), "Spelling", message)


# -- command -------------------------------------------------------------------------------


def lint(texts: list[Text]) -> list[Finding]:
    """Return all that is wrong, by place."""
    findings: list[Finding] = []
    for name, rule in rules():
        if rule["extends"] == "spelling":
            findings += spelling(texts, rule)
        for text in texts:
            findings += check(text, name, rule)
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.rule))


def external_links(paths: list[Path]) -> Iterator[str]:
    """Yield the links to the internet; nothing is asked of it."""
    for path in paths:
        for match in re.finditer(r"\]\((https?://[^)\s]+)", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(ROOT)}: {match[1]}"


def main() -> int:
    """Check, and print what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("files", nargs="*", type=Path, help="pages or modules; all, if none")
    parser.add_argument("--external", action="store_true", help="list the links to the internet")
    options = parser.parse_args()
    paths = [path.resolve() for path in options.files] or [*pages(), *sources()]
    if options.external:
        print("\n".join(external_links([path for path in paths if path.suffix == ".md"])))
        return 0
    if shutil.which("hunspell") is None:
        print("lint: hunspell is absent: apt-get install hunspell hunspell-en-gb", file=sys.stderr)
        return EXIT_UNAVAILABLE
    texts = [page_text(path) for path in paths if path.suffix == ".md"]
    texts += [text for path in paths if path.suffix == ".py" for text in source_texts(path)]
    findings = lint(texts)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
