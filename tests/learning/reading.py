"""An independent reader of expressions over the procedural world: which objects the words mean, and how surely."""

import functools
import itertools
import re

import numpy as np
import shapely
from scipy import ndimage

from remotesam_geo.learning.synthetic import CLASSES, COLOURS

NOUNS = {kind.name: name for name, kind in CLASSES.items()} | {kind.plural: name for name, kind in CLASSES.items()}
NOUN = "|".join(sorted(NOUNS, key=len, reverse=True))
COLOUR = "|".join(COLOURS)
ANCHOR = rf"the (?:(?P<tint>{COLOUR}) )?(?P<anchor>{NOUN})"


class Seen:
    """What a picture shows of one object, from its mask alone."""

    def __init__(self, picture, one):
        mask = picture.labels == one.id
        self.id, self.name, self.colour, self.cut = one.id, one.name, one.colour, one.cut
        rows, columns = np.nonzero(mask)
        self.pixels = len(rows)
        self.x, self.y = columns.mean() + 0.5, rows.mean() + 0.5
        self.left, self.right = columns.min(), columns.max() + 1
        self.top, self.bottom = rows.min(), rows.max() + 1
        self.mask = mask
        corners = np.array(shapely.oriented_envelope(one.polygon).exterior.coords)
        self.long = np.linalg.norm(np.diff(corners[:3], axis=0), axis=1).max()


@functools.lru_cache(maxsize=128)
def look(picture):
    return [Seen(picture, one) for one in picture.instances]


def read(text, picture):
    """The ids that the words are true of, and by how much the nearest other answer misses them."""
    seen = look(picture)
    size = picture.rgb.shape[0]
    found = [(pattern, re.fullmatch(pattern, text)) for pattern in GRAMMAR]
    (pattern, match), *others = [(p, m) for p, m in found if m]
    assert not others, text
    words = match.groupdict()
    some = [s for s in seen if s.name == NOUNS[words["noun"]]]
    return GRAMMAR[pattern](some, seen, words, size)


def every(some, seen, words, size):
    return {s.id for s in some}, np.inf


def colour(some, seen, words, size):
    return {s.id for s in some if s.colour == words["colour"]}, np.inf


def extreme(some, seen, words, size):
    pick = words["pick"]
    if pick in ("largest", "biggest"):
        return top(some, lambda s: s.pixels, ratio=True)
    if pick == "smallest":
        return top(some, lambda s: 1 / s.pixels, ratio=True)
    value = {
        "leftmost": lambda s: -s.x,
        "rightmost": lambda s: s.x,
        "topmost": lambda s: -s.y,
        "bottommost": lambda s: s.y,
    }[pick]
    return top(some, value)


def top(some, value, *, ratio=False):
    values = sorted(((value(s), s.id) for s in some), reverse=True)
    (a, best), (b, _) = values[:2]
    return {best}, a / b if ratio else a - b


def longest(some, seen, words, size):
    return top(some, lambda s: s.long, ratio=True)


def group(some, seen, words, size):
    big = words["size"] in ("large", "big")
    ordered = sorted(some, key=lambda s: s.pixels)
    ratios = [b.pixels / a.pixels for a, b in itertools.pairwise(ordered)]
    k = int(np.argmax(ratios)) + 1
    chosen = ordered[k:] if big else ordered[:k]
    rest = sorted(ratios)[-2] if len(ratios) > 1 else 1
    return {s.id for s in chosen}, ratios[k - 1] / rest


def half(some, seen, words, size):
    value = {
        "left": lambda s: size / 2 - s.x,
        "right": lambda s: s.x - size / 2,
        "top": lambda s: size / 2 - s.y,
        "bottom": lambda s: s.y - size / 2,
    }[words["half"]]
    return {s.id for s in some if value(s) > 0}, min(abs(value(s)) for s in some)


def corner(some, seen, words, size):
    def depth(s):
        x = size / 2 - s.x if words["side"] == "left" else s.x - size / 2
        y = size / 2 - s.y if words["end"] == "top" else s.y - size / 2
        return min(x, y)

    return {s.id for s in some if depth(s) > 0}, min(abs(depth(s)) for s in some)


def middle(some, seen, words, size):
    return top(some, lambda s: -max(abs(s.x - size / 2), abs(s.y - size / 2)))


def anchor_of(seen, words):
    name, tint = NOUNS[words["anchor"]], words["tint"]
    (anchor,) = [s for s in seen if s.name == name and tint in (None, s.colour)]
    return anchor


def near(some, seen, words, size):
    anchor = anchor_of(seen, words)
    away = ndimage.distance_transform_edt(~anchor.mask)
    sign = 1 if words["far"] == "farthest" else -1
    return top(some, lambda s: sign * away[s.mask].min())


def side(some, seen, words, size):
    anchor = anchor_of(seen, words)
    beyond = {
        "left of": lambda s: anchor.left - s.right,
        "right of": lambda s: s.left - anchor.right,
        "above": lambda s: anchor.top - s.bottom,
        "below": lambda s: s.top - anchor.bottom,
    }[words["where"]]
    sign = -1 if words["where"] in ("left of", "above") else 1
    chosen = {s.id for s in some if beyond(s) >= 0}
    # Whoever is not beyond lies on the other side of the anchor's middle.
    margin = np.inf
    for s in some:
        if s.id not in chosen:
            sideways = words["where"] in ("left of", "right of")
            place = s.x if sideways else s.y
            centre = (anchor.left + anchor.right if sideways else anchor.top + anchor.bottom) / 2
            margin = min(margin, sign * (centre - place))
    return chosen, margin


GRAMMAR = {
    rf"(?P<noun>{NOUN}) in the image": every,
    rf"(?:the |all )?(?P<colour>{COLOUR}) (?P<noun>{NOUN})": colour,
    rf"(?:the )?(?P<noun>{NOUN}) that (?:is|are) (?P<colour>{COLOUR})": colour,
    rf"the (?P<pick>largest|biggest|smallest|\w+most) (?P<noun>{NOUN})": extreme,
    rf"the longest (?P<noun>{NOUN})": longest,
    rf"the (?P<size>large|big|small|little) (?P<noun>{NOUN})": group,
    rf"the (?P<noun>{NOUN}) in the (?P<half>\w+) half of the image": half,
    rf"the (?P<noun>{NOUN}) in the (?P<end>top|bottom) (?P<side>left|right) corner": corner,
    rf"the (?P<noun>{NOUN}) in the (?:center|middle) of the image": middle,
    rf"the (?P<noun>{NOUN}) (?P<far>nearest|closest|farthest) (?:to|from) {ANCHOR}": near,
    rf"the (?P<noun>{NOUN}) (?P<where>left of|right of|above|below) {ANCHOR}": side,
}  # fmt: skip

LEAST = {
    extreme: 1.3,
    longest: 1.25,
    group: 1.2,
    half: 10,
    corner: 10,
    middle: 25,
    near: 6,
    side: 10,
}
