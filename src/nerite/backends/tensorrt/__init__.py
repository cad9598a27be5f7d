"""The tensorrt backend: engines that TensorRT has built, run on the GPU they were built for."""
