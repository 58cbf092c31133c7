"""Every relative link of every page leads to a file or folder of the repository, and its anchor to a heading there."""

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    page for pattern in ("*.md", "docs/**/*.md", "domain/**/*.md", "local/**/*.md") for page in ROOT.glob(pattern)
)
_FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2 *$", flags=re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", flags=re.MULTILINE)
_FOREIGN = re.compile(r"[a-z][a-z0-9+.-]*:")


def prose(page: Path) -> str:
    """The page without its blocks of code, in which nothing is a link and nothing a heading."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What GitHub and GitLab make of the headings: lower case, no punctuation, hyphens; a number from the second on."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere."""
    wrong = []
    for link in _LINK.findall(_CODE.sub("", prose(page))):
        if _FOREIGN.match(link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        inside = target.is_relative_to(ROOT) and target.exists()
        if not inside or (anchor and (target.suffix != ".md" or anchor not in anchors(target))):
            wrong.append(link)
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


@pytest.mark.parametrize("folder", ["docs/adr"])
def test_the_index_names_every_page_of_its_folder(folder: str) -> None:
    index = ROOT / folder / "README.md"
    named = set(_LINK.findall(prose(index)))
    assert named == {page.name for page in (ROOT / folder).glob("*.md")} - {index.name}


def test_a_broken_link_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# One `thing`, two\n## Again\n## Again\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#one-thing-two) [c](other.md#again-1) [d](#here) [e](https://a.example/x)\n\n"
        "## Here\n`[code](gone.md)`\n```\n[code](gone.md)\n```\n"
        "[1](gone.md) [2](other.md#again-2) [3](other.md#no-heading) [4](../outside.md) [5](#gone)\n"
    )
    assert broken(page) == ["gone.md", "other.md#again-2", "other.md#no-heading", "../outside.md", "#gone"]
