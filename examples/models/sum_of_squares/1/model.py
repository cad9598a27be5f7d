"""1 + 4 + 9 + ...: the numbers come from one model, their squares from another."""

import asyncio

import numpy as np

import triton_python_backend_utils as pb_utils


def ask(model, output, *inputs):
    return pb_utils.InferenceRequest(
        model_name=model, inputs=list(inputs), requested_output_names=[output]
    )


def value(response):
    if response.has_error():
        raise pb_utils.TritonModelException(response.error().message())
    (tensor,) = response.output_tensors()
    return tensor.as_numpy().item()


async def square(number):
    tensor = pb_utils.Tensor("NUMBER", np.array([[number]], np.float32))
    return value(await ask("batched", "SQUARE", tensor).async_exec())


class TritonPythonModel:
    async def execute(self, requests):
        return [await self._answer(request) for request in requests]

    async def _answer(self, request):
        to = pb_utils.get_input_tensor_by_name(request, "TO")
        responses = await ask("counter", "NUMBER", to).async_exec(decoupled=True)
        # The last response is the end of the numbers, and empty.
        numbers = [value(response) for response in responses if response.output_tensors()]
        squares = await asyncio.gather(*(square(number) for number in numbers))
        out = pb_utils.Tensor("SUM", np.array([sum(squares)], np.int32))
        return pb_utils.InferenceResponse([out])
