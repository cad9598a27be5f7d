"""A small grammar of prompts: many wordings for a scene, or for a part of what it shows.

What a caption leaves out is left to chance, because the scene under it was drawn at random.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from painter import words
from painter.scenes import Scene, Sky


@dataclass(frozen=True, slots=True)
class Caption:
    """A prompt and what it says; ``None`` where it does not say."""

    text: str
    subject: str | None = None
    colour: str | None = None
    time: str | None = None
    ground: str | None = None
    place: str | None = None
    sky: Sky | None = None


@dataclass(frozen=True, slots=True)
class _Told:
    """Which attributes of a scene a caption will tell."""

    subject: bool
    colour: bool
    time: bool
    ground: bool
    place: bool
    sky: bool


def full_caption(scene: Scene, rng: random.Random) -> Caption:
    """A caption that tells every attribute."""
    return _caption(scene, _Told(True, True, True, True, True, True), rng)


def caption(scene: Scene, rng: random.Random) -> Caption:
    """A caption that tells some of the scene, as people do."""
    if rng.random() < 0.02:
        stray = rng.choice((*words.STRAYS, *words.STYLES, "", nonsense(rng)))
        return Caption(f"{rng.choice(words.OPENERS)} {stray}" if rng.random() < 0.5 else stray)
    full = rng.random() < 0.3
    told = _Told(
        subject=full or rng.random() < 0.96,
        colour=full or rng.random() < 0.8,
        time=full or rng.random() < 0.65,
        ground=full or rng.random() < 0.65,
        place=full or rng.random() < 0.35,
        sky=full or rng.random() < 0.5,
    )
    return _caption(scene, told, rng)


def nonsense(rng: random.Random) -> str:
    """A word that means nothing, so that unknown words are nothing new."""
    syllables = [
        rng.choice("bcdfghjklmnprstvwz") + rng.choice("aeiou") + rng.choice(("", "n", "r", "s"))
        for _ in range(rng.randint(1, 4))
    ]
    return "".join(syllables)


def _caption(scene: Scene, told: _Told, rng: random.Random) -> Caption:
    tags = rng.random() < 0.12
    text = _tags(scene, told, rng) if tags else _sentence(scene, told, rng)
    return Caption(
        text=_decorate(text, rng),
        subject=scene.subject if told.subject else None,
        colour=scene.colour if told.subject and told.colour else None,
        time=scene.time if told.time else None,
        ground=scene.ground if told.ground else None,
        place=scene.place if told.subject and told.place else None,
        sky=scene.sky if told.sky else None,
    )


def _decorate(text: str, rng: random.Random) -> str:
    if rng.random() < 0.12:
        text = f"{text} {rng.choice(('and a', 'with a', 'and'))} {_stray(rng)}"
    for _ in range(rng.choice((0, 0, 0, 0, 1, 1, 2, 3))):
        text = f"{text}, {rng.choice(words.STYLES)}"
    if rng.random() < 0.05:
        text = f"{rng.choice(words.STYLES)}, {text}"
    if rng.random() < 0.1:
        text += rng.choice((".", "!", " .", "..."))
    return text


def _stray(rng: random.Random) -> str:
    return rng.choice(words.STRAYS) if rng.random() < 0.5 else nonsense(rng)


def _tags(scene: Scene, told: _Told, rng: random.Random) -> str:
    """Words with commas, in any order."""
    tags: list[str] = []
    if told.subject:
        noun = rng.choice(words.SUBJECT_WORDS[scene.subject])
        if told.colour:
            colour = rng.choice(words.COLOUR_WORDS[scene.colour])
            tags.extend([noun, colour] if rng.random() < 0.3 else [f"{colour} {noun}"])
        else:
            tags.append(noun)
        if told.place:
            tags.append(rng.choice(words.PLACE_WORDS[scene.place]))
    if told.time:
        tags.append(rng.choice(words.TIME_TAGS[scene.time]))
    if told.ground:
        tags.append(rng.choice(words.GROUND_TAGS[scene.ground]))
    if told.sky:
        tags.append(_sky(scene.sky, rng))
    rng.shuffle(tags)
    return rng.choice((", ", ", ", " ")).join(tags)


def _sentence(scene: Scene, told: _Told, rng: random.Random) -> str:
    phrases: list[str] = []
    joint = _time_and_sky(scene, told, rng)
    if joint is not None:
        phrases.append(joint)
    if told.time and joint is None:
        phrases.append(rng.choice(words.TIME_WORDS[scene.time]))
    if told.ground:
        phrases.append(_ground(scene, told, rng))
    if told.sky and joint is None:
        phrases.append(_sky(scene.sky, rng))
    rng.shuffle(phrases)
    noun = _noun(scene, told, rng)
    place = rng.choice(words.PLACE_WORDS[scene.place]) if told.subject and told.place else ""
    if place and rng.random() < 0.6:
        noun, place = f"{noun} {place}", ""
    if place:
        phrases.append(place)
    lead = [phrases.pop(0)] if phrases and rng.random() < 0.15 else []
    glue = rng.choice((" ", " ", " ", ", "))
    body = glue.join([noun, *phrases])
    if lead:
        return f"{lead[0]}{rng.choice((', ', ' '))}{body}"
    return f"{rng.choice(words.OPENERS)} {body}" if rng.random() < 0.25 else body


def _time_and_sky(scene: Scene, told: _Told, rng: random.Random) -> str | None:
    """Phrases such as "on a sunny day" that tell both at once."""
    if not (told.time and told.sky) or len(scene.sky) > 1 or rng.random() < 0.5:
        return None
    thing = next(iter(scene.sky), "")
    known = words.DAY_WORDS.get((scene.time, thing))
    return rng.choice(known) if known else None


def _noun(scene: Scene, told: _Told, rng: random.Random) -> str:
    if not told.subject:
        return rng.choice(("a scene", "a landscape", "a view", "something", "scenery", "a place"))
    noun = rng.choice(words.SUBJECT_WORDS[scene.subject])
    article = rng.choice(("a", "a", "a", "a", "the", "one", ""))
    manner = rng.choice(words.MANNERS) if rng.random() < 0.2 else ""
    colour = rng.choice(words.COLOUR_WORDS[scene.colour]) if told.colour else ""
    late = bool(colour) and rng.random() < 0.1
    if late:
        colour = rng.choice(("{} that is %s", "{} in %s", "{} coloured %s", "{} , %s")) % colour
    front = [article, manner] if late else [article, manner, colour]
    parts = " ".join(part for part in (*front, noun) if part)
    if late:
        parts = colour.format(parts)
    if parts.startswith("a ") and parts[2:3] in "aeo":
        parts = "an " + parts[2:]
    return f"{parts} {rng.choice(words.VERBS)}" if rng.random() < 0.08 else parts


def _ground(scene: Scene, told: _Told, rng: random.Random) -> str:
    if scene.subject == "balloon" and rng.random() < 0.6:
        over = rng.choice(("over", "above", "flying over", "floating above"))
        return f"{over} {rng.choice(words.FLOATING[scene.ground])}"
    apart = scene.subject not in ("sailboat", "balloon", "mountain")
    if scene.ground == "sea" and apart and rng.random() < 0.3:
        return rng.choice(words.ISLAND_WORDS)
    return rng.choice(words.GROUND_WORDS[scene.ground])


def _sky(sky: Sky, rng: random.Random) -> str:
    if not sky:
        return rng.choice(words.CLEAR_WORDS)
    if len(sky) == 1 and rng.random() < 0.4:
        return rng.choice(words.ONE_THING_WORDS[next(iter(sky))])
    things = sorted(sky)
    rng.shuffle(things)
    named = " and ".join(rng.choice(words.THING_WORDS[thing]) for thing in things)
    return rng.choice(("with {}", "with {}", "with {} in the sky", "and {}", "{} above")).format(
        named
    )
