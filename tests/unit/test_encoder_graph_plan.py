"""What TensorRT makes of the graph for GPUs; its builder runs without a GPU."""

from __future__ import annotations

import re
from pathlib import Path

from xuankan_worker.engines.tensorrt.library import load_library
from xuankan_worker.engines.tensorrt.plan import plan_file
from xuankan_worker.engines.tensorrt.shapes import Shape
from xuankan_worker.manifest import GPU_MODEL, Manifest, file_sha256
from xuankan_worker.releases.build import build
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.encoder_graph import write_encoder_graph
from xuankan_worker.releases.random_checkpoint import random_checkpoint

_KERNEL = re.compile(rb'\n  (?:function|runtime_fusion|fully_connected)=\{ name="?(\S+?)"? ')
"""How a serialized plan of TensorRT-RTX 1.6 lists what it launches, profile by profile."""


def test_a_layer_is_eight_kernels_and_attention_is_one_of_them(tmp_path: Path) -> None:
    checkpoint = Checkpoint.load(
        random_checkpoint(tmp_path / "checkpoint", 4, 256, 4, 1024, vocabulary=500, positions=128)
    )
    (tmp_path / GPU_MODEL).write_bytes(write_encoder_graph(checkpoint).SerializeToString())
    files = {GPU_MODEL: file_sha256(tmp_path / GPU_MODEL)}
    Manifest("random", "none", checkpoint.architecture, "0" * 16, "1" * 16, 0.0, 1.0, files).save(tmp_path)
    folder, _ = build(tmp_path, load_library("tensorrt_rtx"), {"cross_encoder": [Shape(128, 16)]})
    kernels = [name.decode() for name in _KERNEL.findall((folder / plan_file("cross_encoder")).read_bytes())]
    start = next(place for place, name in enumerate(kernels) if name.startswith("layer.1.key_value"))
    norm = "__myl_AddAddCastMeanSubMulMeanAddSqrtDivMulCastMulAdd"
    assert kernels[start + 1 : start + 8] == [
        "__myl_FcAdd",  # queries
        "_gemm_mha_v2",
        "layer.1.attention.output",
        norm,
        "__myl_FcAddMulMulMulAddMulTanhAddMulMul",  # and GELU
        "layer.1.output",
        norm,
    ]
    assert kernels[start + 8].startswith("layer.2.key_value")
