"""Imports OpenVINO without its telemetry.

OpenVINO's Python package reports each import to a statistics service if the package `openvino_telemetry` can
be imported. Pochade must not contact anyone unasked, so it makes that import fail first.
"""

import sys

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # importing it is then an ImportError

import openvino as ov  # noqa: E402
from openvino import opset13 as op  # noqa: E402

__all__ = ["op", "ov"]
