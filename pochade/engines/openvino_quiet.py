"""OpenVINO without the telemetry that it sends when it is imported.

Its Python package reports each import to a statistics service, from a forked process, as long as the package
`openvino_telemetry` can be imported. Nothing here may speak to anyone unasked. Where that package is missing
OpenVINO keeps quiet, so it is made to miss it.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it is then an ImportError

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

__all__ = ["op", "ov"]
