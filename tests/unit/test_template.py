"""The template: what the two halves of a pair are made of, and what its fingerprint tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xuankan.errors import ReleaseError
from xuankan.protocol.template import Template


def _tokenizer() -> bytes:
    import xuankan

    return (Path(xuankan.__file__).parent / "data" / "template" / "tokenizer.json").read_bytes()


def test_a_manuscript_is_title_keywords_abstract_without_special_tokens() -> None:
    template = Template.default()
    ids = template.encode_manuscript("Quantum dots", "We grow them", ["optics", "growth"]).ids
    assert template.tokenizer.decode(ids.tolist()) == "quantum dots. optics, growth. we grow them"
    assert template.cls_id not in ids
    assert template.sep_id not in ids


def test_missing_parts_leave_no_stray_separators() -> None:
    template = Template.default()
    assert template.tokenizer.decode(template.encode_manuscript("Dots", "").ids.tolist()) == "dots"
    assert template.tokenizer.decode(template.encode_manuscript("", "Dots").ids.tolist()) == "dots"


def test_long_texts_are_cut_to_the_budget_and_say_so() -> None:
    template = Template.default()
    encoded = template.encode_manuscript("word " * 1000, "")
    assert len(encoded.ids) == template.max_manuscript_tokens
    assert encoded.total == 1000
    assert len(template.encode_profile("word " * 1000).ids) == template.max_profile_tokens


@pytest.mark.parametrize("separators", [1, 2])
def test_profiles_tokenized_together_are_as_one_by_one(separators: int) -> None:
    template = Template.build(_tokenizer(), 100, 50, separators)
    texts = ["", "Journal of Tea. " * 30, "Acta Physica Polonica."]
    together = template.encode_profiles(texts)
    assert [ids.tolist() for ids in together] == [template.encode_profile(t).ids.tolist() for t in texts]
    assert {ids.dtype for ids in together} == {np.dtype(np.int32)}


def test_it_survives_saving(tmp_path: Path) -> None:
    template = Template.build(_tokenizer(), 100, 50)
    template.save(tmp_path, _tokenizer())
    assert Template.load(tmp_path).fingerprint == template.fingerprint


def test_the_fingerprint_tells_budgets_and_tokenizers_apart() -> None:
    tokenizer = _tokenizer()
    fingerprints = {
        Template.build(tokenizer, 100, 50).fingerprint,
        Template.build(tokenizer, 101, 50).fingerprint,
        Template.build(tokenizer, 100, 51).fingerprint,
        Template.build(tokenizer.replace(b'"zoo"', b'"zoq"'), 100, 50).fingerprint,
    }
    assert len(fingerprints) == 4


def test_a_directory_without_a_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=str(tmp_path)):
        Template.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "template.json").write_text('{"max_manuscript_tokens": 10, "max_profile_tokens": 5}')
    with pytest.raises(ReleaseError, match="not a tokenizer"):
        Template.load(tmp_path)
