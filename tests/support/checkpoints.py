"""Tiny checkpoints with tokenizers that fit real text, and `xuankan model export` on them."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from tests.support import families
from xuankan.protocol.template import default_directory
from xuankan_worker.cli.export import export

WORDS = (
    "the", "of", "a", "model", "journal", "paper", "we", "study", "and", "for", "with", "in", "on", "data",
    "learning", "physics",
)  # fmt: skip


def roberta_tokenizer() -> str:
    """The JSON of a tokenizer that makes pairs as RoBERTa's does."""
    vocabulary = {token: index for index, token in enumerate(("<s>", "<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    mark_special(tokenizer, "<s>", "<pad>", "</s>", "<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    return tokenizer.to_str()


def mark_special(tokenizer: Tokenizer, *tokens: str) -> None:
    tokenizer.add_special_tokens(list(tokens))  # pyright: ignore[reportUnknownMemberType]


def write_checkpoint(
    directory: Path, monkeypatch: pytest.MonkeyPatch, family: str = "bert", tokenizer: str | None = None
) -> Path:
    """A tiny checkpoint of a size that fits real pairs, with the package's tokenizer unless given."""
    tokenizer = tokenizer or (default_directory() / "tokenizer.json").read_text()
    monkeypatch.setattr(families, "VOCABULARY", Tokenizer.from_str(tokenizer).get_vocab_size())
    monkeypatch.setattr(families, "POSITIONS", 128)
    families.write_checkpoint(directory, family)
    (directory / "tokenizer.json").write_text(tokenizer)
    return directory


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])
