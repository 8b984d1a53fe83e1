"""The journals that a reference list cites are known by whatever it says of them."""

from __future__ import annotations

import pytest

from xuankan import Catalogue, Manuscript
from xuankan.documents import Document, Reference
from xuankan.documents.citations import cited_journals, manuscript_of

PRL = "physical-review-letters"
MNRAS = "monthly-notices-of-the-royal-astronomical-society"


@pytest.mark.parametrize(
    ("reference", "journal"),
    [
        (Reference(issns=("00319007",)), PRL),
        (Reference(doi="https://doi.org/10.1093/MNRAS/stv123"), MNRAS),
        (Reference(journal="Mon. Not. R. Astron. Soc."), MNRAS),
        (Reference(journal="The Physical Review Letters"), PRL),
        (Reference(text="Smith J, 2010, PHYS REV LETT, V1, P2"), PRL),
        (
            Reference(text="A. Author, Machine learning of things. Phys. Rev. B 81, 012 (2010)"),
            "physical-review-b",
        ),
        (Reference(text="Y. Author (2001), A&A 12, 3"), "astronomy-and-astrophysics"),
        (Reference(text="X. Author, 2016, ApJ, 823, 12"), "astrophysical-journal"),
        (Reference(text="doi:10.1103/PhysRevLett.116.061102"), PRL),
        (Reference(text="Doe, On machine learning and its uses. Journal of Nowhere 12"), None),
        (Reference(journal="Journal of Nowhere", doi="10.9999/none.1"), None),
    ],
)
def test_a_journal_is_known_by_what_a_reference_says(reference: Reference, journal: str | None) -> None:
    wanted = {} if journal is None else {journal: 1}
    assert cited_journals([reference], Catalogue.default()) == wanted


def test_a_manuscript_says_what_its_file_cites() -> None:
    catalogue = Catalogue.default()
    document = Document("Title", references=(Reference(issns=("0031-9007",)),) * 7)
    assert manuscript_of(document, catalogue) == Manuscript("Title", cited={PRL: 7})
    assert manuscript_of(Document("Title"), catalogue).cited is None
