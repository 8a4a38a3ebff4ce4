"""PubMed's XML, as in its baseline and update files: titles and abstracts.

    for document in read_pubmed(Path("pubmed26n0001.xml.gz")): ...

A document's id is the PMID. Its text is the title and each section of the abstract on lines of their own; a
section with a label starts with "LABEL: ". The text of inline markup (<i>, <sup>) is kept. Deletions, books
and abstracts in other languages are ignored.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from ner_recipe.formats.document import BadDocument, Document, Unreadable, checked, or_unreadable
from ner_recipe.formats.source import xml_items

ROOT, ARTICLE = "PubmedArticleSet", "PubmedArticle"


def read_pubmed(path: Path) -> Iterator[Document | Unreadable]:
    """Yield each article of a file."""
    articles = (element for element in xml_items(path, ROOT) if element.tag == ARTICLE)
    for number, element in enumerate(articles, start=1):
        yield from_article(element, f"{path}, document {number}")


@or_unreadable
def from_article(element: Element, place: str) -> Document:
    name = (element.findtext("MedlineCitation/PMID") or "").strip()
    if not name:
        raise BadDocument(place, "found an article without PMID; expected <PMID>")
    title = element.find("MedlineCitation/Article/ArticleTitle")
    lines = ["" if title is None else text_of(title)]
    for section in element.iterfind("MedlineCitation/Article/Abstract/AbstractText"):
        label, text = section.get("Label"), text_of(section)
        lines.append(f"{label}: {text}" if label and text else text)
    return checked(Document(name, "\n".join(filter(None, lines)), place=place))


def text_of(element: Element) -> str:
    return "".join(element.itertext()).strip()
