"""Makers of the models that the tests serve. Each is checked against Python's onnxruntime when it is made."""
