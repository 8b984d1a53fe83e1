"""The template: how texts become the tokens of a pair, `[CLS] manuscript [SEP] profile [SEP]`.

Families that are trained with two separators between the halves get two (`Template.separators`).

Producer and worker must agree on it to the byte; its fingerprint travels with every request.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from xuankan.errors import ReleaseError

SPECIAL_TOKENS = 3
"""`[CLS]` and two `[SEP]` of each pair."""
_LAYOUTS = {
    1: "[CLS] title. keywords. abstract [SEP] profile [SEP]",
    2: "[CLS] title. keywords. abstract [SEP] [SEP] profile [SEP]",
}
"""By the separators between the halves: RoBERTa and its kin are trained with two."""


class EncodedText(NamedTuple):
    """Token ids, int32 [T], cut to the template's budget, and how many tokens the whole text had."""

    ids: NDArray[np.int32]
    total: int


def default_directory() -> Path:
    """Where the template lies that the package carries."""
    return Path(str(files("xuankan") / "data" / "template"))


@dataclass(frozen=True)
class Template:
    """A tokenizer and the token budgets of the two halves of a pair.

    Attributes:
        tokenizer: the fast tokenizer; thread-safe.
        max_manuscript_tokens, max_profile_tokens: longer texts are cut at their end.
        fingerprint: hash of the tokenizer, the layout and the budgets, 16 hexadecimal digits.
        separators: `[SEP]` tokens between the halves. A second one counts as the profile's first token.
    """

    tokenizer: Tokenizer
    max_manuscript_tokens: int
    max_profile_tokens: int
    fingerprint: str
    separators: int = 1

    @classmethod
    def load(cls, directory: Path) -> Template:
        """Load `tokenizer.json` and `template.json` from a directory.

        Raises:
            ReleaseError: a file is missing or is not what it should be.
        """
        try:
            tokenizer_json = (directory / "tokenizer.json").read_bytes()
            budgets = json.loads((directory / "template.json").read_bytes())
            return cls.build(
                tokenizer_json,
                int(budgets["max_manuscript_tokens"]),
                int(budgets["max_profile_tokens"]),
                int(budgets.get("separators", 1)),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReleaseError(
                f"{directory} has no usable tokenizer.json and template.json: {error}"
            ) from error

    @classmethod
    @functools.cache
    def default(cls) -> Template:
        """The template of the default model, which the package carries."""
        return cls.load(default_directory())

    @classmethod
    def build(
        cls, tokenizer_json: bytes, max_manuscript_tokens: int, max_profile_tokens: int, separators: int = 1
    ) -> Template:
        """Make a template from a tokenizer's JSON, the budgets and the separators between the halves.

        Raises:
            ValueError: the JSON is no tokenizer, a special token is missing, or separators is not 1 or 2.
        """
        if separators not in _LAYOUTS:
            raise ValueError(f"separators must be 1 or 2, not {separators}")
        try:
            tokenizer = Tokenizer.from_str(tokenizer_json.decode())
        except Exception as error:  # the tokenizers library raises bare Exception
            raise ValueError(f"not a tokenizer: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        digest = hashlib.sha256(tokenizer_json)
        layout = [_LAYOUTS[separators], max_manuscript_tokens, max_profile_tokens]
        digest.update(json.dumps(layout).encode())
        fingerprint = digest.hexdigest()[:16]
        template = cls(tokenizer, max_manuscript_tokens, max_profile_tokens, fingerprint, separators)
        for token in ("cls_id", "sep_id", "pad_id", "unknown_id"):
            getattr(template, token)  # fails now, not at the first manuscript, if one is missing
        return template

    def save(self, directory: Path, tokenizer_json: bytes) -> None:
        """Write `tokenizer.json` and `template.json`, so that `load` gives this template again."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "tokenizer.json").write_bytes(tokenizer_json)
        budgets = {
            "max_manuscript_tokens": self.max_manuscript_tokens,
            "max_profile_tokens": self.max_profile_tokens,
        }
        if self.separators != 1:
            budgets["separators"] = self.separators
        (directory / "template.json").write_text(json.dumps(budgets, indent=2) + "\n")

    @functools.cached_property
    def cls_id(self) -> int:
        """Id of `[CLS]` (`<s>` in RoBERTa's vocabularies)."""
        return self._special("[CLS]", "<s>")

    @functools.cached_property
    def sep_id(self) -> int:
        """Id of `[SEP]` (`</s>`)."""
        return self._special("[SEP]", "</s>")

    @functools.cached_property
    def pad_id(self) -> int:
        """Id of `[PAD]` (`<pad>`)."""
        return self._special("[PAD]", "<pad>")

    @functools.cached_property
    def unknown_id(self) -> int:
        """Id of `[UNK]` (`<unk>`)."""
        return self._special("[UNK]", "<unk>")

    @property
    def max_length(self) -> int:
        """Tokens of the longest pair."""
        return self.max_manuscript_tokens + self.max_profile_tokens + SPECIAL_TOKENS + self.separators - 1

    def encode_manuscript(self, title: str, abstract: str, keywords: Sequence[str] = ()) -> EncodedText:
        """Tokenize a manuscript, without special tokens."""
        parts = [title, ", ".join(keywords), abstract]
        return self._encode(". ".join(part for part in parts if part), self.max_manuscript_tokens)

    def encode_profile(self, profile: str) -> EncodedText:
        """Tokenize a journal's profile, with no special tokens but the second separator of such a layout."""
        ids, total = self._encode(profile, self.max_profile_tokens)
        return EncodedText(np.insert(ids, 0, [self.sep_id] * (self.separators - 1)), total)

    def encode_profiles(self, profiles: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids that `encode_profile` gives of each, on all processor cores."""
        first = [self.sep_id] * (self.separators - 1)
        return [
            np.array([*first, *found.ids[: self.max_profile_tokens]], dtype=np.int32)
            for found in self.tokenizer.encode_batch_fast(profiles, add_special_tokens=False)
        ]

    def _encode(self, text: str, budget: int) -> EncodedText:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return EncodedText(np.asarray(ids[:budget], dtype=np.int32), len(ids))

    def _special(self, *names: str) -> int:
        added = self.tokenizer.get_added_tokens_decoder().values()
        special = {token.content for token in added if token.special}
        # MPNet's vocabulary holds BERT's names too, as tokens that it never uses.
        for name in sorted(names, key=lambda name: name not in special):
            token = self.tokenizer.token_to_id(name)
            if token is not None:
                return token
        raise ValueError(f"the tokenizer has no token {' or '.join(names)}")
