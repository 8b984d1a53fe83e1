"""The encoder families whose checkpoints are read: BERT and those that differ from it in names and details.

Everything else speaks of weights by BERT's names; a family says what they are called in its own files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HeadActivation = Literal["tanh", "gelu", "relu"]


@dataclass(frozen=True, slots=True)
class Family:
    """How a family's checkpoints differ from BERT's.

    Attributes:
        model_class: what transformers calls it with a sequence-classification head.
        names: what to replace in BERT's names of weights, in this order.
        settings: its own names of BERT's settings in `config.json`.
        fixed: settings that its configurations do not hold.
        padded_positions: positions count from the padding token's id + 1, as in fairseq.
        segments: the two halves of a pair have embeddings of their own.
        head_activation: between the two linear layers of the head.
    """

    model_class: str
    names: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    fixed: tuple[tuple[str, float], ...] = ()
    padded_positions: bool = False
    segments: bool = True
    head_activation: HeadActivation = "tanh"

    def own_name(self, name: str) -> str:
        """What the family's files call the weight that BERT calls `name`."""
        for bert, own in self.names:
            name = name.replace(bert, own)
        return name


def _roberta(model_class: str) -> Family:
    return Family(
        model_class,
        (("bert.pooler.dense", "classifier.dense"), *_HEAD, ("bert.", "roberta.")),
        padded_positions=True,
        segments=False,
    )


_HEAD = (("classifier.weight", "classifier.out_proj.weight"), ("classifier.bias", "classifier.out_proj.bias"))

FAMILIES = {
    "bert": Family("BertForSequenceClassification"),
    "roberta": _roberta("RobertaForSequenceClassification"),
    "xlm-roberta": _roberta("XLMRobertaForSequenceClassification"),
    "camembert": _roberta("CamembertForSequenceClassification"),
    "mpnet": Family(
        "MPNetForSequenceClassification",
        (
            ("bert.pooler.dense", "classifier.dense"),
            *_HEAD,
            ("attention.self.query", "attention.attn.q"),
            ("attention.self.key", "attention.attn.k"),
            ("attention.self.value", "attention.attn.v"),
            ("attention.output.dense", "attention.attn.o"),
            ("attention.output.LayerNorm", "attention.LayerNorm"),
            ("bert.", "mpnet."),
        ),
        padded_positions=True,
        segments=False,
    ),
    "electra": Family(
        "ElectraForSequenceClassification",
        (("bert.pooler.dense", "classifier.dense"), *_HEAD, ("bert.", "electra.")),
        head_activation="gelu",
    ),
    "distilbert": Family(
        "DistilBertForSequenceClassification",
        (
            ("bert.pooler.dense", "pre_classifier"),
            ("attention.self.query", "attention.q_lin"),
            ("attention.self.key", "attention.k_lin"),
            ("attention.self.value", "attention.v_lin"),
            ("attention.output.dense", "attention.out_lin"),
            ("attention.output.LayerNorm", "sa_layer_norm"),
            ("intermediate.dense", "ffn.lin1"),
            ("output.dense", "ffn.lin2"),
            ("output.LayerNorm", "output_layer_norm"),
            ("bert.encoder.layer", "distilbert.transformer.layer"),
            ("bert.embeddings", "distilbert.embeddings"),
        ),
        (
            ("hidden_size", "dim"),
            ("num_hidden_layers", "n_layers"),
            ("num_attention_heads", "n_heads"),
            ("intermediate_size", "hidden_dim"),
            ("hidden_act", "activation"),
        ),
        (("layer_norm_eps", 1e-12),),
        segments=False,
        head_activation="relu",
    ),
}
"""By `model_type` of a configuration."""
