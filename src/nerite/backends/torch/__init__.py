"""The pytorch backend: TorchScript, torch.export and AOTInductor files, in Triton's naming."""
