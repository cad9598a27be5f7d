"""The onnxruntime backend: a session, what its graph declares, and how it is opened."""
