"""What people have their papers in: every reader of files, for all commands and the portal.

`open_file` tells a file's kind and gives its reader; `read` is the same in one call. A reader yields
`Document`s, and a `Problem` in the place of each record that cannot be used.
"""

from __future__ import annotations

from xuankan.documents.columns import Columns
from xuankan.documents.files import File
from xuankan.documents.model import Document, Problem, Reference
from xuankan.documents.reading import open_file, read

__all__ = ["Columns", "Document", "File", "Problem", "Reference", "open_file", "read"]
