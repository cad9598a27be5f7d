"""What a diffusion model counts for the metrics port: how often a prompt was known already."""

from __future__ import annotations

import threading

from nerite.backends.base import ModelSpec
from nerite.core.errors import InferenceError
from nerite.diffusion import Embeddings

_FAMILIES = {
    "nerite_prompt_cache_hits_total": "Prompts whose encoding was known from an earlier request",
    "nerite_prompt_cache_misses_total": "Prompts that a text encoder had to encode",
}


class PromptMetrics:
    """Counters of one model version, which its instances share; silent without a server."""

    def __init__(self, spec: ModelSpec, embeddings: Embeddings | None) -> None:
        self._outside = spec.outside
        self._embeddings = embeddings
        self._lock = threading.Lock()
        self._told = (0, 0)
        self._metrics: list[int] = []
        if embeddings is None:
            return
        labels = {"model": spec.name, "version": str(spec.version)}
        try:
            for name, text in _FAMILIES.items():
                named = {"name": name, "text": text, "kind": "counter"}
                family = self._outside.order("metric_family", named)
                labelled = {"family": family, "labels": labels, "bounds": []}
                self._metrics.append(int(self._outside.order("metric", labelled)))
        except InferenceError:  # there is no server, or a model.py has taken the name
            self._metrics = []

    def tell(self) -> None:
        """What was counted since the last time; from any thread."""
        if self._embeddings is None or not self._metrics:
            return
        with self._lock:
            counts = (self._embeddings.hits, self._embeddings.misses)
            told, self._told = self._told, counts
        for metric, now, before in zip(self._metrics, counts, told, strict=True):
            if now > before:
                arguments = {"metric": metric, "value": float(now - before)}
                self._outside.tell("metric_increment", arguments)
