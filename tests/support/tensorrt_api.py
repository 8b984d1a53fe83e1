"""What Xuankan uses of TensorRT's Python API, and what releases of the standard library have of it.

The standard library cannot be imported without its gigabytes of libraries, but its bindings can, with empty
libraries in their place: `python -m tests.support.tensorrt_api tensorrt_cu12_bindings-10.13….whl …` reads the
names and parameters that real releases have (Linux, a C compiler, the wheel's version of Python) into
tests/data/tensorrt-api.json, which the tests compare with.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

SNAPSHOT = Path(__file__).parents[1] / "data" / "tensorrt-api.json"
COMMON: dict[str, str] = {
    "Builder": "create_network create_builder_config create_optimization_profile build_serialized_network",
    "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
    "INetworkDefinition": "num_inputs num_outputs get_input get_output",
    "ITensor": "name shape",
    "IBuilderConfig": "profiling_verbosity progress_monitor max_aux_streams add_optimization_profile "
    "create_timing_cache get_timing_cache set_timing_cache num_optimization_profiles",
    "ITimingCache": "serialize",
    "ProfilingVerbosity": "DETAILED",
    "IOptimizationProfile": "set_shape",
    "IProgressMonitor": "phase_start phase_finish step_complete",
    "ILogger": "ERROR WARNING log",
    "OnnxParser": "parse_from_file num_errors get_error",
    "ParserError": "node node_name node_operator desc",
    "Runtime": "deserialize_cuda_engine",
    "ICudaEngine": "num_optimization_profiles get_tensor_profile_shape create_runtime_config "
    "get_device_memory_size_for_profile_v2 create_execution_context create_engine_inspector",
    "IRuntimeConfig": "set_execution_context_allocation_strategy",
    "ExecutionContextAllocationStrategy": "USER_MANAGED",
    "IExecutionContext": "set_optimization_profile_async set_device_memory set_input_shape "
    "set_tensor_address execute_async_v3",
    "EngineInspector": "execution_context get_engine_information",
    "LayerInformationFormat": "JSON",
}
"""Class -> members that every flavour must have."""
RTX_ONLY: dict[str, str] = {
    "IBuilderConfig": "num_compute_capabilities set_compute_capability",
    "ComputeCapability": "SM80 SM86 SM89",
    "Runtime": "get_engine_validity",
    "EngineValidity": "INVALID",
    "EngineInvalidityDiagnostics": "UNSUPPORTED_CC",
    "IRuntimeConfig": "create_runtime_cache set_runtime_cache cuda_graph_strategy "
    "dynamic_shapes_kernel_specialization_strategy",
    "CudaGraphStrategy": "DISABLED",
    "DynamicShapesKernelSpecializationStrategy": "NONE",
    "IRuntimeCache": "deserialize serialize",
}

Api = dict[str, dict[str, list[list[str]]]]
"""Class -> member -> parameters of each overload; none for what is no method."""


def describe(trt: Any) -> Api:
    """What a module has of `COMMON`."""
    found: Api = {}
    for kind, members in COMMON.items():
        owner = getattr(trt, kind, None)
        found[kind] = {name: _overloads(owner, name) for name in members.split() if hasattr(owner, name)}
    return found


def _overloads(owner: Any, name: str) -> list[list[str]]:
    text = getattr(owner, name).__doc__ or ""
    found = re.findall(rf"^(?:\d+\. )?{name}\(self: (.*)\) -> ", text, re.MULTILINE)
    return [re.findall(r"(?:^|, )(\w+)(?=: )", parameters.partition(", ")[2]) for parameters in found]


def read_wheel(wheel: Path) -> Api:
    """The API of a wheel of bindings."""
    with tempfile.TemporaryDirectory() as scratch:
        zipfile.ZipFile(wheel).extractall(scratch)
        bindings = Path(scratch) / "tensorrt_bindings"
        library = bindings / "tensorrt.so"
        dynamic = subprocess.run(
            ["readelf", "-d", library], capture_output=True, text=True, check=True
        ).stdout
        symbols = subprocess.run(["nm", "-Du", library], capture_output=True, text=True, check=True).stdout
        wanted = {name for name in re.findall(r" U (\w+)$", symbols, re.MULTILINE) if "nv" in name.lower()}
        wanted |= set(re.findall(r" U (create\w+|get\w*PluginRegistry|initLib\w+)$", symbols, re.MULTILINE))
        source = "".join(f"long {name}(void) {{ return 0; }}\n" for name in sorted(wanted - {"getenv"}))
        for name in re.findall(r"\[(libnv\w+\.so\.\d+)\]", dynamic):
            command = ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", bindings / name, f"-Wl,-soname,{name}"]
            subprocess.run(command, input=source, text=True, check=True)
            source = ""
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.tensorrt_api"],
            env={**os.environ, "LD_LIBRARY_PATH": str(bindings), "TENSORRT_BINDINGS": str(bindings)},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)


if __name__ == "__main__":
    if len(sys.argv) == 1:  # started by read_wheel
        sys.path.insert(0, os.environ["TENSORRT_BINDINGS"])
        sys.stdout.write(json.dumps(describe(importlib.import_module("tensorrt"))))
    else:
        apis = {Path(name).name.split("-")[1]: read_wheel(Path(name)) for name in sys.argv[1:]}
        SNAPSHOT.write_text(json.dumps(apis, indent=1) + "\n")
