"""What is there in two languages says the same in both."""

import re

import pytest

from benchmarks.server import ROOT
from tests.docs.reader import blocks

PAGES = {
    "README.md": "README.fr.md",
    "docs/tutorial.md": "docs/tutoriel.md",
    "docs/build-on-it.md": "docs/build-on-it.fr.md",
    "docs/migrations.md": "docs/migrations.fr.md",
}


def outline(text: str) -> list[str]:
    """Return what each line is, of those that are the same in every language: titles, tables."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^(#+ (?:\d+\.)?|\||</?details>|</?table>|!\[|- )", prose, re.MULTILINE)


def code(text: str) -> list[tuple[str, str, str]]:
    """Return the blocks of code; a diagram has words in it."""
    return [block for block in blocks(text) if block[0] != "mermaid"]


@pytest.mark.parametrize("english", PAGES)
def test_both_languages(english: str) -> None:
    first, second = ((ROOT / page).read_text() for page in (english, PAGES[english]))
    assert code(second) == code(first)
    assert outline(second) == outline(first)


@pytest.mark.parametrize("french", PAGES.values())
def test_french_leads_to_french(french: str) -> None:
    """A link to a page that is there in French leads to that one."""
    text = (ROOT / french).read_text()
    linked = re.findall(r"\]\((?:docs/|\.\./)?([\w.-]+\.md)[^)]*\)", text)
    others = {page.rpartition("/")[2] for page in PAGES}
    back = {en.rpartition("/")[2] for en, fr in PAGES.items() if fr == french}
    assert others & set(linked) == back
