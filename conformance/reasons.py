"""Why a case may be skipped: a closed list, so that nothing else can hide behind a skip."""

from enum import StrEnum


class Reason(StrEnum):
    """What a case needs that a plain machine with Python has not."""

    CUDA = "CUDA"
    LIBTORCH = "libtorch"
    TENSORFLOW = "TensorFlow"
    TENSORRT = "TensorRT"
    OPENVINO = "OpenVINO"
    DALI = "DALI"
    CLOUD = "a cloud account"
    CONTAINER = "the container"
    CPP = "a C++ build"
