"""The examiner must read true renders without a fault before it may judge painted ones."""

import random

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def test_it_reads_true_renders():
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from painter import checker
    from painter.scenes import random_scene, render

    rng = random.Random("examined")
    scenes = [random_scene(rng) for _ in range(150)]
    pictures = np.stack([np.asarray(render(scene, seed)) for seed, scene in enumerate(scenes)])
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    seen = checker.load().read(tensor)
    for attribute in ("subject", "colour", "time", "ground", "place", "sky"):
        pairs = zip(scenes, seen, strict=True)
        right = sum(getattr(true, attribute) == getattr(read, attribute) for true, read in pairs)
        assert right / len(scenes) >= 0.99, attribute
