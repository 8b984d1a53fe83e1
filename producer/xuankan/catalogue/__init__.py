"""The catalogue of journals, its artefact, and imports of a deployment's own."""

from xuankan.catalogue.model import OPEN_ACCESS, Catalogue, Journal, OpenAccess, quoted_titles

__all__ = ["OPEN_ACCESS", "Catalogue", "Journal", "OpenAccess", "quoted_titles"]
