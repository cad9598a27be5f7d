"""nerite.Server: models inside an asyncio program, without sockets."""

import asyncio
import sys

import numpy as np

from nerite import InferenceError, Request, Server


async def main(models: str) -> None:
    ones = np.ones((1, 4), np.float32)
    async with Server(models) as server:
        asked = [
            Request("add_sub", {"INPUT0": number * ones, "INPUT1": ones}) for number in range(3)
        ]
        answers = await asyncio.gather(*(server.infer(request).one() for request in asked))
        for answer in answers:
            print(answer.outputs["OUTPUT0"][0].tolist())
        try:
            await server.infer(Request("add_sub", {"INPUT0": ones})).one()
        except InferenceError as error:
            print(error.status.name, error.message)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "examples/models"))
