"""The parts of `tritonserver`, one noun per file; import them from the package itself."""
