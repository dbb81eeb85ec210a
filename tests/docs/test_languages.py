"""What is there in two languages says the same in both."""

import re

import pytest

from tests.docs.reader import blocks
from tests.server import ROOT

PAGES = {
    "README.md": "README.fr.md",
    "docs/tutorial.md": "docs/tutoriel.md",
    "docs/build-on-it.md": "docs/build-on-it.fr.md",
    "docs/migrations.md": "docs/migrations.fr.md",
    "docs/your-app.md": "docs/your-app.fr.md",
    "docs/with.md": "docs/with.fr.md",
}


def without_blocks(text: str) -> str:
    """Return the text without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def outline(text: str) -> list[str]:
    """Return how each line begins, of those that are the same in every language: titles, tables."""
    begins = r"^(#+ (?:\d+\.)?|\|(?: `.*?` \|)?|</?details>|</?table>|!\[|- )"
    return re.findall(begins, without_blocks(text), re.MULTILINE)


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


@pytest.mark.parametrize("french", PAGES.values())
def test_french_typography(french: str) -> None:
    """No line begins with the sign that ends a sentence: the space before it does not break."""
    prose = re.sub("`[^`]*`", "", without_blocks((ROOT / french).read_text()))
    assert re.findall(r".* [;:?!»].*|.*« .*", prose) == []
