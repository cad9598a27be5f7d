"""Scenes and captions: the same for the same seed, sensible, and held out where they must be."""

import random

import numpy as np
from painter.captions import caption, full_caption
from painter.data import held_out, held_out_scene, training_scene
from painter.scenes import HUES, LANDS, SKY_SETS, SUBJECTS, TIMES, random_scene, render, sensible
from painter.words import SUBJECT_WORDS


def test_a_seed_draws_the_same_pixels():
    scene = random_scene(random.Random(3))
    first, again, other = (np.asarray(render(scene, seed)) for seed in (1, 1, 2))
    assert first.shape == (128, 128, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_edges_are_smooth():
    scene = random_scene(random.Random(3))
    assert len(np.unique(np.asarray(render(scene, 1)).reshape(-1, 3), axis=0)) > 500


def test_scenes_make_sense():
    rng = random.Random(0)
    scenes = [random_scene(rng) for _ in range(2000)]
    assert all(map(sensible, scenes))
    assert {scene.subject for scene in scenes} == set(SUBJECTS)
    assert {scene.colour for scene in scenes} == set(HUES)
    assert {scene.ground for scene in scenes} == set(LANDS)
    assert all(scene.ground == "sea" for scene in scenes if scene.subject == "sailboat")
    assert not any("sun" in sky for sky in SKY_SETS["night"])
    assert not any("moon" in sky for time in TIMES if time != "night" for sky in SKY_SETS[time])


def test_about_a_tenth_of_the_combinations_is_held_out():
    rng = random.Random(1)
    scenes = [random_scene(rng) for _ in range(4000)]
    assert 0.05 < sum(map(held_out, scenes)) / len(scenes) < 0.16


def test_training_never_sees_what_is_held_out():
    rng = random.Random(2)
    assert not any(held_out(training_scene(rng)) for _ in range(500))
    assert all(held_out(held_out_scene(rng)) for _ in range(50))


def test_a_full_caption_tells_everything():
    rng = random.Random(4)
    for _ in range(300):
        scene = random_scene(rng)
        told = full_caption(scene, rng)
        for name in ("subject", "colour", "time", "ground", "place", "sky"):
            assert getattr(told, name) == getattr(scene, name)
        assert any(noun in told.text for noun in SUBJECT_WORDS[scene.subject])


def test_captions_vary_and_repeat_with_their_seed():
    scene = random_scene(random.Random(5))
    texts = [caption(scene, random.Random(seed)).text for seed in range(200)]
    assert len(set(texts)) > 150
    assert texts == [caption(scene, random.Random(seed)).text for seed in range(200)]
    assert min(len(text.split()) for text in texts) <= 4
