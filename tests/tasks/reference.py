"""Slow and obviously right: what the package computes at speed, written as its definition."""

import itertools
from collections import deque

import cv2
import numpy as np

EIGHT = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]
FOUR = [(-1, 0), (1, 0), (0, -1), (0, 1)]


def flood(mask, neighbours=EIGHT):
    """The connected sets of pixels (y, x), in the order of their first pixels row by row."""
    height, width = mask.shape
    seen = np.zeros(mask.shape, bool)
    found = []
    for y, x in itertools.product(range(height), range(width)):
        if not mask[y, x] or seen[y, x]:
            continue
        seen[y, x] = True
        pixels, queue = set(), deque([(y, x)])
        while queue:
            cy, cx = queue.popleft()
            pixels.add((cy, cx))
            for dy, dx in neighbours:
                ny, nx = cy + dy, cx + dx
                if 0 <= ny < height and 0 <= nx < width and mask[ny, nx] and not seen[ny, nx]:
                    seen[ny, nx] = True
                    queue.append((ny, nx))
        found.append(pixels)
    return found


def box(pixels):
    ys, xs = [y for y, _ in pixels], [x for _, x in pixels]
    return min(xs), min(ys), max(xs) + 1, max(ys) + 1


def filled(pixels, shape):
    """The pixels with their holes: all that cannot walk out of the picture along sides without crossing them."""
    height, width = shape
    framed = np.ones((height + 2, width + 2), bool)
    for y, x in pixels:
        framed[y + 1, x + 1] = False
    outside = next(part for part in flood(framed, FOUR) if (0, 0) in part)
    return {(y, x) for y, x in itertools.product(range(height), range(width)) if (y + 1, x + 1) not in outside}


def pieces(mask, contour, share):
    """The published refinement: pieces larger than a share of the largest piece of their component."""
    kept = []
    cut = flood(mask & ~contour)
    for whole in flood(mask):
        mine = [piece for piece in cut if piece <= whole]
        largest = max(map(len, mine), default=0)
        kept += [piece for piece in mine if len(piece) > share * largest]
    return sorted(kept, key=min)


def inner(boxes, score):
    """Upright boxes inside another one; of equal boxes the best, then the first, stays."""
    order = sorted(range(len(boxes)), key=lambda i: (-score[i], i))
    rank = {index: place for place, index in enumerate(order)}
    drop = []
    for i, (ax, ay, bx, by) in enumerate(boxes):
        for j, (cx, cy, dx, dy) in enumerate(boxes):
            if i != j and ax >= cx and ay >= cy and bx <= dx and by <= dy:
                equal = (ax, ay, bx, by) == (cx, cy, dx, dy)
                if not equal or rank[i] > rank[j]:
                    drop.append(i)
    return [i in drop for i in range(len(boxes))]


def oriented_boxes(labels, n):
    """The published oriented boxes of labelled pixels, 1 to n: through pixel centres, corners cut to whole pixels."""
    found = []
    for label in range(1, n + 1):
        outlines, _ = cv2.findContours((labels == label).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        found.append(cv2.boxPoints(cv2.minAreaRect(outlines[0])).astype(np.int64))
    return np.array(found, np.int64).reshape(-1, 4, 2)


def inner_drawn(corners, score, shape):
    """Oriented boxes drawn inside another one, each on a whole canvas; those without area or pixels are dropped."""
    canvases = []
    for box in corners:
        canvas = np.zeros(shape, np.uint8)
        cv2.fillPoly(canvas, [box.astype(np.int32)], 1)
        canvases.append(canvas > 0)
    rank = np.argsort(np.argsort(-np.asarray(score), kind="stable"), kind="stable")
    flat = [
        cv2.contourArea(box.astype(np.int32)) == 0 or not canvas.any()
        for box, canvas in zip(corners, canvases, strict=True)
    ]
    drop = list(flat)
    for i, j in itertools.permutations(range(len(corners)), 2):
        if flat[i] or flat[j]:
            continue
        both = np.count_nonzero(canvases[i] & canvases[j])
        mine, its = np.count_nonzero(canvases[i]), np.count_nonzero(canvases[j])
        if both == mine and (mine != its or rank[i] > rank[j]):
            drop[i] = True
    return drop


def suppressed(boxes, score, iou):
    """Greedy non-maximum suppression of upright boxes."""
    left = sorted(range(len(boxes)), key=lambda i: (-score[i], i))
    keep = []
    while left:
        best = left.pop(0)
        keep.append(best)
        left = [other for other in left if overlap(boxes[best], boxes[other]) <= iou]
    return [i not in keep for i in range(len(boxes))]


def overlap(one, other):
    """Intersection over union of two boxes on whole pixels, by counting the pixels."""
    a, b = ({(y, x) for y in range(y0, y1) for x in range(x0, x1)} for x0, y0, x1, y1 in (one, other))
    return len(a & b) / len(a | b)


def corner_points(pixels):
    return np.array(sorted({(x + i, y + j) for y, x in pixels for i in (0, 1) for j in (0, 1)}))


def smallest_area(points, step=0.1):
    """The least area of a rectangle round points, over all angles in steps of degrees."""
    angles = np.deg2rad(np.arange(0, 90, step))
    across = points @ np.stack([np.cos(angles), np.sin(angles)])
    down = points @ np.stack([-np.sin(angles), np.cos(angles)])
    return (np.ptp(across, axis=0) * np.ptp(down, axis=0)).min()


def sides(corners):
    return corners[1] - corners[0], corners[3] - corners[0]


def turn(one, other):
    """Positive where the way turns clockwise on the screen."""
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]


def check_rectangle(corners, points):
    """A rectangle round all points, not larger than any found by trying 900 angles."""
    along, down = sides(corners)
    assert along[0] > 0
    assert along[1] >= 0  # to the right and down by less than 90 degrees
    np.testing.assert_allclose(along @ down, 0, atol=1e-6)
    np.testing.assert_allclose(corners[2], corners[1] + down, atol=1e-9)
    assert turn(along, down) > 0
    for side in (along, down):
        place = (points - corners[0]) @ side / (side @ side)
        assert place.min() >= -1e-9
        assert place.max() <= 1 + 1e-9
    area = np.linalg.norm(along) * np.linalg.norm(down)
    assert area <= smallest_area(points) * (1 + 1e-9)
