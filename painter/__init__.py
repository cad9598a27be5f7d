"""How the embedded painter is made: scenes, captions, training, export and evaluation.

None of this is in the wheel; the wheel holds only what ``export.py`` writes.
"""
