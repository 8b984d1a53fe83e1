"""A BERT cross-encoder of random weights in any size: measures of speed need no trained one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from xuankan.protocol.template import default_directory


def random_checkpoint(
    directory: Path,
    layers: int = 12,
    hidden: int = 768,
    heads: int = 12,
    intermediate: int = 3072,
    vocabulary: int = 30522,
    positions: int = 512,
    seed: int = 0,
) -> Path:
    """Write a checkpoint that `Checkpoint.load` and transformers read, with the package's tokenizer.

    The defaults are BERT-base. Weights are drawn as BERT's before training: N(0, 0.02), biases 0, layer
    normalizations 1 and 0.

    Returns:
        `directory`, which gets `config.json`, `model.safetensors` and the tokenizer's files.
    """
    random = np.random.default_rng(seed)
    tensors: dict[str, NDArray[np.float32]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        embedding(name, outputs, inputs)
        tensors[f"{name}.bias"] = np.zeros(outputs, np.float32)

    def embedding(name: str, rows: int, columns: int) -> None:
        tensors[f"{name}.weight"] = random.standard_normal((rows, columns), np.float32) * np.float32(0.02)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = np.ones(hidden, np.float32)
        tensors[f"{name}.bias"] = np.zeros(hidden, np.float32)

    for table, rows in (("word", vocabulary), ("position", positions), ("token_type", 2)):
        embedding(f"bert.embeddings.{table}_embeddings", rows, hidden)
    norm("bert.embeddings.LayerNorm")
    for layer in range(layers):
        prefix = f"bert.encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{prefix}.attention.{part}", hidden, hidden)
        norm(f"{prefix}.attention.output.LayerNorm")
        linear(f"{prefix}.intermediate.dense", hidden, intermediate)
        linear(f"{prefix}.output.dense", intermediate, hidden)
        norm(f"{prefix}.output.LayerNorm")
    linear("bert.pooler.dense", hidden, hidden)
    linear("classifier", hidden, 1)
    config = {
        "architectures": ["BertForSequenceClassification"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": hidden,
        "id2label": {"0": "LABEL_0"},
        "intermediate_size": intermediate,
        "label2id": {"LABEL_0": 0},
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": positions,
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": vocabulary,
    }
    directory.mkdir(parents=True, exist_ok=True)
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config, indent=2))
    shutil.copyfile(default_directory() / "tokenizer.json", directory / "tokenizer.json")
    tokenizer = {"tokenizer_class": "BertTokenizer", "model_max_length": positions}
    (directory / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return directory
