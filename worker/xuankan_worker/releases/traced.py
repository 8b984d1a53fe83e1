"""Runs and exports any sequence classifier by PyTorch: the reference, and the way for other families.

A graph that PyTorch's exporter traces computes the same, but batch-major: TensorRT copies queries, keys and
values for its attention, and every layer runs on all tokens to the end.
"""

from __future__ import annotations

import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from xuankan.errors import ReleaseError
from xuankan_worker.engines.base import TokenBatch
from xuankan_worker.engines.sequence import SEQUENCE_INPUTS, sequence_feed
from xuankan_worker.manifest import Architecture

OPSET = 17
"""Of traced graphs: every supported PyTorch writes it, and it is the first with LayerNormalization."""
LOSS = (
    "written by PyTorch's exporter: expect it to be slower on a GPU than a family that is written for "
    "TensorRT: queries, keys and values are copied for each attention, and the last layer runs on all tokens"
)


class TorchModel:
    """A cross-encoder of any architecture that transformers knows, in float32 on the CPU.

    Attributes:
        version: of what computes.

    Raises:
        ReleaseError: transformers does not load it, or it has more than one label.
    """

    def __init__(self, checkpoint: Path) -> None:
        # By name: the packages are an extra that checking the types does without.
        self._torch: Any = import_module("torch")
        transformers: Any = import_module("transformers")
        self.version = f"PyTorch {self._torch.__version__}, transformers {transformers.__version__}, float32"
        self._checkpoint = checkpoint
        transformers.utils.logging.disable_progress_bar()
        try:
            self._model = transformers.AutoModelForSequenceClassification.from_pretrained(
                checkpoint, local_files_only=True, attn_implementation="eager"
            )
        except Exception as error:  # whatever a model's own code raises
            raise ReleaseError(f"transformers does not load {checkpoint}: {error}") from error
        if (labels := self._model.config.num_labels) != 1:
            raise ReleaseError(f"{checkpoint}/config.json: {labels} labels; a cross-encoder has one")
        self._model = self._model.float().eval()

    @property
    def architecture(self) -> Architecture:
        """Its shape, as configured.

        Raises:
            ReleaseError: the configuration does not tell it.
        """
        config = self._model.config
        names = (
            "num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size", "vocab_size",
            "max_position_embeddings",
        )  # fmt: skip
        if missing := [name for name in names if not isinstance(getattr(config, name, None), int)]:
            raise ReleaseError(f"{self._checkpoint}/config.json: {missing[0]} is missing")
        return Architecture(config.model_type, *(getattr(config, name) for name in names))

    def logits(self, batch: TokenBatch) -> NDArray[np.float32]:
        """float32 [B]."""
        with self._torch.no_grad():
            return self._module()(*self._inputs(batch)).numpy()

    def export(self, example: TokenBatch) -> onnx.ModelProto:
        """The FP16 graph as `torch.onnx` traces it, with our inputs and output; the model stays FP16.

        Raises:
            ReleaseError: it cannot be traced, or needs an operator that ONNX does not have; named.
        """
        self._model = self._model.half()
        both, rows = {0: "S", 1: "B"}, {0: "B"}
        with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says of every shape that it traces that it may be constant
            path = Path(directory) / "model.onnx"
            try:
                self._torch.onnx.export(
                    self._module(),
                    self._inputs(example),
                    str(path),
                    dynamo=False,
                    opset_version=OPSET,
                    input_names=list(SEQUENCE_INPUTS),
                    output_names=["scores"],
                    dynamic_axes={"tokens": both, "places": both, "lengths": rows, "scores": rows},
                )
            except Exception as error:  # the exporter has many kinds of its own
                raise ReleaseError(
                    f"torch.onnx does not export {type(self._model).__name__} of {self._checkpoint}: {error}"
                ) from error
            model = onnx.ModelProto.FromString(path.read_bytes())
        if foreign := sorted({f"{node.domain}::{node.op_type}" for node in model.graph.node if node.domain}):
            raise ReleaseError(
                f"{type(self._model).__name__} of {self._checkpoint} needs operators that are not in the "
                f"ONNX standard: {', '.join(foreign)}"
            )
        return model

    def _inputs(self, batch: TokenBatch) -> tuple[Any, ...]:
        return tuple(self._torch.from_numpy(part) for part in sequence_feed(batch).values())

    def _module(self) -> Any:
        """The model with the inputs and the output of our graphs."""
        torch, model = self._torch, self._model
        # One type of token, as in RoBERTa, is what a model assumes if it is told of none.
        segments = getattr(model.config, "type_vocab_size", 0) > 1
        # Padding must be the padding token for a model that finds its positions by it.
        padding = getattr(model.config, "pad_token_id", None) or 0

        class Wrapped(torch.nn.Module):
            def forward(self, tokens: Any, places: Any, lengths: Any) -> Any:
                real = torch.arange(tokens.shape[0]) < lengths[:, None]
                ids = torch.where(real, tokens.t().long(), padding)
                second = (places.t().long() % 2) * real.long()
                types = {"token_type_ids": second} if segments else {}
                logits = self.model(input_ids=ids, attention_mask=real.long(), **types).logits[:, 0].float()
                return logits + 0 * places[0]  # an input that is not used would not be in the graph

        wrapped: Any = Wrapped()
        wrapped.model = model
        return wrapped.eval()
