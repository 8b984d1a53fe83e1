"""The GPU engine: TensorRT plans, run in several execution contexts at the same time."""
