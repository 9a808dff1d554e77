"""Quantised ONNX networks as graphs of operators."""
