"""ONNX Runtime: loaded when the first graph is opened, since a static encoder needs none of it.

It is told beforehand to report nothing to its maker: nothing leaves the machine.
"""

import os
from typing import TYPE_CHECKING

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def open_graph(graph: str | bytes, threads: int) -> "InferenceSession":
    """Open a graph to run on the CPU.

    Args:
        graph: the path of its file, or its bytes.
        threads: how many one call may use.

    Returns:
        What runs it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
