"""ONNX Runtime, told to report nothing to its maker before it is loaded: nothing leaves the machine."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as runtime

__all__ = ["runtime"]
