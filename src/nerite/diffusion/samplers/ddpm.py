"""DDPM, ancestral sampling of the posterior: eq. 7 of arXiv 2006.11239."""

from __future__ import annotations

import numpy as np

from nerite.diffusion.samplers.table import NOISE, Steps, Table, clean_estimate, slots, unit
from nerite.diffusion.schedule import ScheduleConfig, training_alphas, whole_timesteps

_LEAST = 1e-20  # of a variance; the last step draws noise, too


def ddpm(config: ScheduleConfig, steps: int, begin: int) -> Table:
    alphas = training_alphas(config)
    timesteps = whole_timesteps(config, steps)
    levels = np.append(alphas[timesteps], 1.0)
    walk, x = Steps(), slots()[0]
    for index in range(begin, steps):
        now, then = float(levels[index]), float(levels[index + 1])
        kept, fresh = now / then, 1 - now / then
        clean = clean_estimate(config, *unit(now))
        new = (np.sqrt(then) * fresh * clean + np.sqrt(kept) * (1 - then) * x) / (1 - now)
        if timesteps[index] > 0:
            large = config.variance_type == "fixed_large"
            variance = fresh if large else fresh * (1 - then) / (1 - now)
            new = new + np.sqrt(max(variance, _LEAST)) * NOISE
        walk.add(timesteps[index], [new], clean, unit(now))
    return walk.table()
