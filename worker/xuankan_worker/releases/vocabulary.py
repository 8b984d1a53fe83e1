"""Which row of a checkpoint's word embeddings each token of a template has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xuankan.errors import ReleaseError

_SAME = {"[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>", "[MASK]": "<mask>"}
"""What MPNet calls BERT's special tokens. Its `[UNK]` is BERT's."""


def word_order(directory: Path, tokenizer: Tokenizer, rows: int) -> NDArray[np.int64]:
    """For each token of the template, its row in the checkpoint's table.

    Args:
        directory: of the checkpoint; its `tokenizer.json` says where the vocabulary is another.
        tokenizer: of the template.
        rows: of the table.

    Raises:
        ReleaseError: the checkpoint's vocabulary lacks a token.
    """
    size = tokenizer.get_vocab_size()
    path = directory / "tokenizer.json"
    own = Tokenizer.from_file(str(path)) if path.is_file() else tokenizer
    vocabulary = own.get_vocab()
    words = [tokenizer.id_to_token(i) or "" for i in range(size)]
    if all(vocabulary.get(word) == i for i, word in enumerate(words)):
        return np.arange(size)
    order = [vocabulary.get(_SAME.get(w, w), vocabulary.get(w, -1)) for w in words]
    missing = [word for word, row in zip(words, order, strict=True) if not 0 <= row < rows]
    if missing:
        raise ReleaseError(f"{directory}: its vocabulary lacks {missing[0]!r}, which the template's has")
    return np.array(order)
