"""nerite.SyncServer: the same for programs without a loop; any thread may ask."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from nerite import Request, SyncServer

models = sys.argv[1] if len(sys.argv) > 1 else "examples/models"
ones = np.ones((1, 4), np.float32)


def double(server: SyncServer, number: int) -> list[float]:
    inputs = {"INPUT0": number * ones, "INPUT1": number * ones}
    found: list[float] = server.infer(Request("add_sub", inputs)).one().outputs["OUTPUT0"].tolist()
    return found


with SyncServer(models) as server, ThreadPoolExecutor(4) as threads:
    for answer in threads.map(lambda number: double(server, number), range(4)):
        print(answer)
