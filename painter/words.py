"""The vocabulary of the captions: what each attribute may be called."""

from __future__ import annotations

SUBJECT_WORDS: dict[str, tuple[str, ...]] = {
    "house": ("house", "house", "house", "cottage", "cabin", "home", "hut", "little house"),
    "tree": ("tree", "tree", "tree", "oak", "leafy tree", "oak tree"),
    "sailboat": (
        "sailboat",
        "sailboat",
        "boat",
        "ship",
        "sailing boat",
        "yacht",
        "sailing ship",
        "sail boat",
        "little boat",
    ),
    "lighthouse": ("lighthouse", "lighthouse", "lighthouse", "light house", "beacon"),
    "mountain": ("mountain", "mountain", "mountain", "peak", "mountain peak", "summit", "hill"),
    "balloon": ("balloon", "balloon", "hot air balloon", "hot-air balloon", "air balloon"),
}
COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet", "bright red"),
    "blue": ("blue", "blue", "blue", "azure", "deep blue"),
    "yellow": ("yellow", "yellow", "yellow", "golden", "bright yellow"),
    "white": ("white", "white", "white", "pure white"),
    "purple": ("purple", "purple", "violet", "lilac"),
    "orange": ("orange", "orange", "orange", "bright orange"),
    "green": ("green", "green", "green", "emerald", "emerald green"),
    "pink": ("pink", "pink", "pink", "rose pink", "bright pink"),
}
TIME_WORDS: dict[str, tuple[str, ...]] = {
    "day": (
        "by day",
        "by day",
        "during the day",
        "at noon",
        "in daylight",
        "in the daytime",
        "at midday",
        "in the afternoon",
        "on a fine day",
        "in bright daylight",
        "at day",
    ),
    "dawn": (
        "at dawn",
        "at dawn",
        "at sunrise",
        "in the early morning",
        "at daybreak",
        "in the morning",
        "at first light",
        "in the light of dawn",
    ),
    "sunset": (
        "at sunset",
        "at sunset",
        "at dusk",
        "in the evening",
        "at twilight",
        "at nightfall",
        "in the light of the sunset",
        "during sunset",
    ),
    "night": (
        "at night",
        "at night",
        "by night",
        "at midnight",
        "in the dark",
        "on a dark night",
        "late at night",
        "in the night",
        "during the night",
    ),
}
TIME_TAGS = {
    "day": ("day", "daytime", "daylight", "noon"),
    "dawn": ("dawn", "sunrise", "early morning", "morning"),
    "sunset": ("sunset", "dusk", "evening", "twilight"),
    "night": ("night", "night time", "midnight", "dark night"),
}
GROUND_WORDS: dict[str, tuple[str, ...]] = {
    "meadow": (
        "in a meadow",
        "on a meadow",
        "on green grass",
        "on the grass",
        "in a field",
        "in a green field",
        "in the green meadow",
        "in the grass",
        "on a lawn",
        "in the meadow",
    ),
    "desert": (
        "in the desert",
        "in a desert",
        "on the sand",
        "among the dunes",
        "in a sandy desert",
        "on sand dunes",
        "in the sand",
        "in the hot desert",
    ),
    "snow": (
        "in the snow",
        "on snow",
        "in the snow",
        "in a snowy landscape",
        "in winter",
        "in a snowy field",
        "on the white snow",
        "in deep snow",
        "on a snowy field",
    ),
    "sea": (
        "on the sea",
        "at sea",
        "on the ocean",
        "on the water",
        "by the sea",
        "in the sea",
        "by the ocean",
        "in the ocean",
        "on the waves",
        "near the sea",
        "on the blue sea",
    ),
}
GROUND_TAGS = {
    "meadow": ("meadow", "grass", "field", "green grass"),
    "desert": ("desert", "sand", "dunes", "sandy"),
    "snow": ("snow", "snowy", "winter"),
    "sea": ("sea", "ocean", "water", "waves"),
}
FLOATING = {
    "meadow": ("a meadow", "the meadow", "green grass", "the grass", "a field", "green fields"),
    "desert": ("the desert", "a desert", "the sand", "the dunes", "sand dunes"),
    "snow": ("the snow", "a snowy landscape", "snowy fields", "snow"),
    "sea": ("the sea", "the ocean", "the water", "the waves"),
}
ISLAND_WORDS = ("on an island", "on a small island", "on a rocky island", "on an island in the sea")
PLACE_WORDS: dict[str, tuple[str, ...]] = {
    "left": (
        "on the left",
        "on the left",
        "on the left side",
        "to the left",
        "at the left",
        "at left",
        "left",
        "on the left hand side",
    ),
    "centre": (
        "in the middle",
        "in the centre",
        "in the center",
        "in the middle of the picture",
        "at the centre",
        "at the center",
        "centre",
        "center",
        "centered",
    ),
    "right": (
        "on the right",
        "on the right",
        "on the right side",
        "to the right",
        "at the right",
        "at right",
        "right",
        "on the right hand side",
    ),
}
THING_WORDS: dict[str, tuple[str, ...]] = {
    "sun": ("the sun", "a sun", "a bright sun", "the shining sun", "sun", "sunshine"),
    "moon": ("the moon", "a moon", "a crescent moon", "a bright moon", "moon", "moonlight"),
    "stars": ("stars", "the stars", "bright stars", "a starry sky", "twinkling stars"),
    "clouds": ("clouds", "some clouds", "white clouds", "a few clouds", "fluffy clouds"),
    "rainbow": ("a rainbow", "the rainbow", "a colourful rainbow", "a big rainbow", "rainbow"),
}
ONE_THING_WORDS: dict[str, tuple[str, ...]] = {
    "sun": ("under the sun", "in the sunshine", "sun in the sky", "sun shining", "sunny"),
    "moon": ("under the moon", "in the moonlight", "moonlit", "under a crescent moon"),
    "stars": ("under the stars", "under a starry sky", "starry sky", "starry"),
    "clouds": ("under a cloudy sky", "cloudy sky", "under clouds", "cloudy", "clouds in the sky"),
    "rainbow": ("under a rainbow", "below a rainbow", "rainbow in the sky"),
}
CLEAR_WORDS = (
    "under a clear sky",
    "clear sky",
    "with a clear sky",
    "under an empty sky",
    "no clouds",
)
DAY_WORDS: dict[tuple[str, str], tuple[str, ...]] = {  # time and the one thing in the sky
    ("day", "sun"): ("on a sunny day", "on a bright sunny day", "sunny day"),
    ("day", ""): ("on a clear day", "clear day", "on a cloudless day"),
    ("day", "clouds"): ("on a cloudy day", "cloudy day"),
    ("night", "moon"): ("on a moonlit night", "moonlit night"),
    ("night", "stars"): ("on a starry night", "starry night"),
    ("night", "clouds"): ("on a cloudy night", "cloudy night"),
    ("night", ""): ("on a clear dark night", "clear night"),
    ("dawn", "clouds"): ("on a cloudy morning", "cloudy dawn"),
    ("sunset", "clouds"): ("on a cloudy evening", "cloudy sunset"),
}
OPENERS = (
    "a painting of",
    "a picture of",
    "an illustration of",
    "a drawing of",
    "a photo of",
    "an image of",
    "a beautiful painting of",
    "a cute drawing of",
    "a simple picture of",
    "please paint",
    "paint",
    "draw",
    "draw me",
    "show me",
    "i want",
    "a postcard of",
    "watercolor of",
    "a detailed illustration of",
    "a poster of",
)
MANNERS = (
    "small",
    "little",
    "big",
    "tiny",
    "lonely",
    "old",
    "pretty",
    "beautiful",
    "cute",
    "lovely",
    "tall",
    "large",
    "single",
    "nice",
    "cozy",
    "magnificent",
    "simple",
)
STYLES = (
    "highly detailed",
    "4k",
    "8k",
    "masterpiece",
    "digital art",
    "cute",
    "beautiful",
    "flat style",
    "best quality",
    "trending on artstation",
    "vector art",
    "minimalist",
    "cartoon style",
    "children's book illustration",
    "soft light",
    "watercolor",
    "oil painting",
    "ultra hd",
    "sharp focus",
    "very pretty",
    "peaceful",
    "dreamy",
    "illustration",
    "high quality",
    "hd",
    "in the style of a postcard",
    "calm",
    "professional",
    "concept art",
    "vivid colors",
)
VERBS = ("standing", "seen", "resting", "that stands", "all alone", "alone")
STRAYS = (
    "dragon",
    "cat",
    "dog",
    "robot",
    "banana",
    "castle",
    "car",
    "unicorn",
    "spaceship",
    "people",
    "my friend",
    "music",
    "tuesday",
    "happiness",
    "blurry",
    "ugly",
    "low quality",
    "bad anatomy",
    "guitar",
    "pizza",
    "city",
    "knight",
    "butterfly",
    "coffee",
    "wizard",
    "train",
    "penguin",
)
EXTRA_WORDS = (
    "the of and to in is it you that he was for on are with as his they be at one have this from "
    "or had by hot but some what there we can out other were all your when up use word how said "
    "an each she which do their time if will way about many then them would write like so these "
    "her long make thing see him two has look more day could go come did my sound no most number "
    "who over know water than call first people may down side been now find any new work part "
    "take get place made live where after back little only round man year came show every good "
    "me give our under name very through just form much great think say help low line before "
    "turn cause same mean differ move right boy old too does tell sentence set three want air "
    "well also play small end put home read hand port large spell add even land here must big "
    "high such follow act why ask men change went light kind off need house picture try us again "
    "animal point mother world near build self earth father river forest lake beach bird fish "
    "horse flower garden bridge road village castle tower window door roof cloud rain storm wind "
    "summer autumn spring winter black grey gray brown dark bright golden silver style art photo "
    "portrait landscape realistic cinematic lighting render anime sketch colorful abstract"
)
