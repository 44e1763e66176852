"""Every metric against another way to compute it, on random and on degenerate input; merged equals one pass."""

import contextlib
import io
import math
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import stats

from remotesam_geo.errors import InputError
from remotesam_geo.learning.evaluation.metrics import (
    CaptionScore,
    ChanceCounts,
    CountingScore,
    DetectionScore,
    GroundingScore,
    MultiLabelScore,
    ReferringScore,
    SemanticScore,
    SingleLabelScore,
    box_ious,
    chance_counts,
    corner_ious,
    words_of,
)
from remotesam_geo.tasks import encode, upright

seeds = st.integers(0, 2**32 - 1)


def same(one, other):
    """Whether two scores have the very same digits (NaN included)."""
    return repr(one) == repr(other)


# --- masks --------------------------------------------------------------------------------------


@given(seeds, st.integers(0, 6))
def test_referring_agrees_with_counting_pixel_by_pixel(seed, n):
    generator = np.random.default_rng(seed)
    score, ious, common, every = ReferringScore(), [], 0, 0
    for _ in range(n):
        found, truth = generator.random((2, 5, 7)) < generator.random()
        score.add(found, truth)
        i = sum(bool(a and b) for a, b in zip(found.flat, truth.flat, strict=True))
        u = sum(bool(a or b) for a, b in zip(found.flat, truth.flat, strict=True))
        ious.append(i / u if u else 1.0)
        common, every = common + i, every + u
    overall = score.scores().overall
    if not n:
        assert math.isnan(overall["mIoU"])
        assert math.isnan(overall["Pr@0.5"])
        return
    assert overall["mIoU"] == pytest.approx(np.mean(ious))
    assert overall["oIoU"] == pytest.approx(common / every if every else math.nan, nan_ok=True)
    for least in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert overall[f"Pr@{least}"] == np.mean([round(iou, 9) >= least for iou in ious])


def test_an_empty_answer_to_nothing_is_right_or_as_published():
    for empty, expected in ((1.0, 1.0), (0.0, 0.5)):
        score = ReferringScore(empty=empty)
        score.add_counts(0, 0)
        score.add_counts(4, 4)
        assert score.scores().overall["mIoU"] == expected
        assert score.scores().overall["oIoU"] == 1.0


def test_six_of_ten_pixels_reach_an_iou_of_six_tenths():
    score = ReferringScore()
    for part, whole in ((6, 10), (3, 5), (9, 15), (7, 10), (9, 10), (5, 10)):
        score.add_counts(part, whole)
    assert score.scores().overall["Pr@0.5"] == 1
    assert score.scores().overall["Pr@0.6"] == 5 / 6
    assert score.scores().overall["Pr@0.9"] == 1 / 6


@given(seeds, st.integers(2, 5))
def test_semantic_agrees_with_sets_of_pixels(seed, n):
    generator = np.random.default_rng(seed)
    names = [f"class {k}" for k in range(n)]
    score = SemanticScore(names, ignore=255, left_out=names[:1])
    pixels = []
    for _ in range(3):
        found = generator.integers(0, n, (6, 6))
        truth = np.where(generator.random((6, 6)) < 0.2, 255, generator.integers(0, n, (6, 6)))
        score.add(found, truth)
        pixels += [(t, f) for t, f in zip(truth.flat, found.flat, strict=True) if t != 255]
    scores = score.scores()
    for k, name in enumerate(names):
        true = {i for i, (t, _) in enumerate(pixels) if t == k}
        answered = {i for i, (_, f) in enumerate(pixels) if f == k}
        if true | answered:
            assert scores.by_class[name]["IoU"] == len(true & answered) / len(true | answered)
            assert scores.by_class[name]["F1"] == pytest.approx(2 * len(true & answered) / (len(true) + len(answered)))
        else:
            assert math.isnan(scores.by_class[name]["IoU"])
    assert scores.overall["accuracy"] == np.mean([t == f for t, f in pixels])
    kept = [scores.by_class[name]["IoU"] for name in names[1:]]
    assert scores.overall["mIoU"] == pytest.approx(np.nanmean(kept))


def test_classes_out_of_range_are_refused_with_their_number():
    score = SemanticScore(["a", "b"])
    with pytest.raises(InputError, match="the truth holds the class 2"):
        score.add(np.zeros((1, 1), int), np.full((1, 1), 2))
    with pytest.raises(InputError, match="the answer holds the class -1"):
        score.add(np.full((1, 1), -1), np.zeros((1, 1), int))


# --- boxes --------------------------------------------------------------------------------------


def random_boxes(generator, n, ties=False):
    low = generator.integers(0, 20, (n, 2))
    size = generator.integers(1, 15, (n, 2))
    score = generator.integers(1, 4, n) / 4 if ties else generator.random(n)
    return np.concatenate([low, low + size], axis=1).astype(float), score


def coco_figures(pictures, most):
    """AP50:95, AP50, AP75 of pycocotools, by class."""
    images, annotations, results = [], [], []
    labels = sorted({label for _, classes in pictures for label in classes})
    for number, (name, classes) in enumerate(sorted(pictures)):
        images.append({"id": number, "file_name": name, "width": 99, "height": 99})
        for label, (found, score, true, crowd) in classes.items():
            category = labels.index(label) + 1
            for (x0, y0, x1, y1), many in zip(true, crowd, strict=True):
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": int(many),
                    }
                )
            for (x0, y0, x1, y1), chance in zip(found, score, strict=True):
                results.append(
                    {
                        "image_id": number,
                        "category_id": category,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "score": float(chance),
                    }
                )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": k + 1, "name": label} for k, label in enumerate(labels)],
            "info": {},
        }
        truth.createIndex()
        if not results:
            return {}
        judge = COCOeval(truth, truth.loadRes(results), "bbox")
        judge.params.maxDets = [1, 2, most]
        judge.evaluate()
        judge.accumulate()
    figures = {}
    for k, label in enumerate(labels):
        precision = judge.eval["precision"][:, :, k, 0, 2]  # iou x recall
        recall = judge.eval["recall"][0, k, 0, 2]
        if (precision > -1).any():
            figures[label] = (precision.mean(), precision[0].mean(), precision[5].mean(), recall)
    return figures


def random_pictures(seed):
    generator = np.random.default_rng(seed)
    pictures = []
    for number in range(int(generator.integers(1, 6))):
        classes = {}
        for label in ("ship", "tank"):
            found, score = random_boxes(generator, int(generator.integers(0, 12)), ties=bool(seed % 2))
            true, _ = random_boxes(generator, int(generator.integers(0, 6)))
            near = generator.random(len(true)) < 0.7  # many found boxes lie near true ones
            moved = true[near] + generator.integers(-1, 2, (int(near.sum()), 4))
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
            found = np.concatenate([found, moved])
            score = np.concatenate([score, generator.random(len(moved))])
            classes[label] = (found, score, true, generator.random(len(true)) < 0.2)
        pictures.append((f"{number:03}", classes))
    return pictures


def counted(pictures, **options):
    score = DetectionScore(**options)
    for name, classes in pictures:
        for label, (found, chance, true, crowd) in classes.items():
            score.add(name, label, found, chance, true, crowd=crowd)
    return score


@given(seeds, st.sampled_from([3, 100]))
def test_average_precision_agrees_with_pycocotools(seed, most):
    pictures = random_pictures(seed)
    expected = coco_figures(pictures, most)
    scores = counted(pictures, most=most).scores()
    for label, row in scores.by_class.items():
        if label not in expected:
            assert math.isnan(row["AP50"]) or row["AP50"] == 0
            continue
        assert (row["AP50:95"], row["AP50"], row["AP75"], row["recall50"]) == pytest.approx(expected[label], abs=1e-12)


@given(seeds)
def test_upright_boxes_have_the_same_figures_as_corners(seed):
    pictures = random_pictures(seed)
    turned = [
        (
            name,
            {
                label: (upright(f.astype(int)), s, upright(t.astype(int)), crowd)
                for label, (f, s, t, crowd) in classes.items()
            },
        )
        for name, classes in pictures
    ]
    one, other = counted(pictures).scores(), counted(turned, oriented=True).scores()
    for label, row in one.by_class.items():
        assert row == pytest.approx(other.by_class[label], nan_ok=True, abs=1e-9)


@given(seeds)
def test_overlaps_of_turned_boxes_agree_with_counting_points(seed):
    generator = np.random.default_rng(seed)
    y, x = (np.mgrid[0:250, 0:250] + 0.5) / 5 - 10  # 0.2 apart, from -10 to 40
    corners, inside = [], []
    for _ in range(5):
        middle, (w, h) = generator.uniform(5, 25, 2), generator.uniform(3, 15, 2)
        c, s = np.cos(turn := generator.uniform(0, np.pi)), np.sin(turn)
        along, across = np.array([c, s]) * w / 2, np.array([-s, c]) * h / 2
        corners.append([middle + a * along + b * across for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))])
        dx, dy = x - middle[0], y - middle[1]
        inside.append((abs(dx * c + dy * s) <= w / 2) & (abs(dy * c - dx * s) <= h / 2))
    ours = corner_ious(np.array(corners[:2]), np.array(corners[2:]))
    for i in range(2):
        for j in range(3):
            both, either = inside[i] & inside[2 + j], inside[i] | inside[2 + j]
            assert ours[i, j] == pytest.approx(both.sum() / either.sum(), abs=0.03)


def test_corners_clicked_crosswise_are_the_box_they_mean():
    square = np.array([[[0.0, 0], [2, 0], [2, 2], [0, 2]]])
    crossed = square[:, [0, 2, 1, 3]]
    assert corner_ious(crossed, square)[0, 0] == 1


def test_average_precision_by_hand():
    # Best first: right, wrong, right; three truths. Precision 1 up to recall 1/3, 2/3 up to 2/3, then 0.
    score = DetectionScore()
    true = np.array([[0.0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]])
    found = np.array([[0.0, 0, 10, 10], [60, 0, 70, 10], [20, 0, 30, 10]])
    score.add("p", "ship", found, np.array([0.9, 0.8, 0.7]), true)
    assert score.scores().overall["AP50"] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)


def test_a_class_without_truth_has_no_figure_and_one_never_found_has_zero():
    score = DetectionScore()
    none = np.zeros((0, 4))
    score.add("p", "ghost", np.array([[0.0, 0, 1, 1]]), np.array([0.9]), none)
    score.add("p", "missed", none, np.zeros(0), np.array([[0.0, 0, 1, 1]]))
    score.add("p", "nothing", none, np.zeros(0), none)
    by_class = score.scores().by_class
    assert math.isnan(by_class["ghost"]["AP50"])
    assert math.isnan(by_class["nothing"]["AP50"])
    assert by_class["missed"]["AP50"] == 0
    assert score.scores().overall["AP50"] == 0


def test_difficult_objects_neither_help_nor_harm():
    sure = np.array([[0.0, 0, 10, 10]])
    hard = np.array([[20.0, 20, 30, 30]])
    without, found_too = DetectionScore(), DetectionScore()
    without.add("p", "ship", sure, np.array([0.5]), sure)
    found_too.add(
        "p",
        "ship",
        np.concatenate([hard, sure]),
        np.array([0.9, 0.5]),
        np.concatenate([sure, hard]),
        difficult=np.array([False, True]),
    )
    assert without.scores().overall["AP50"] == found_too.scores().overall["AP50"] == 1


@pytest.mark.parametrize(
    ("found", "score", "words"),
    [
        (np.zeros((1, 5)), np.zeros(1), "n x 4 boxes"),
        (np.zeros((2, 4)), np.zeros(1), "a score for each"),
        (np.full((1, 4), np.nan), np.zeros(1), "finite"),
    ],
)
def test_boxes_that_cannot_be_judged_are_refused(found, score, words):
    with pytest.raises(InputError, match=words):
        DetectionScore().add("p", "ship", found, score, np.zeros((0, 4)))


def test_crowds_take_the_share_of_the_found_box():
    ious = box_ious(np.array([[0.0, 0, 2, 2]]), np.array([[0.0, 0, 1, 2]]), np.array([True]))
    assert ious[0, 0] == 0.5


def test_grounding_and_its_published_variant():
    figures = {}
    for published in (False, True):
        score = GroundingScore(published=published)
        score.add(2, None, (0, 0, 4, 4))  # out of order: the place in the data set counts
        score.add(0, (0, 0, 4, 4), (0, 0, 4, 4))
        score.add(1, (0, 0, 4, 3), (0, 0, 4, 4))
        score.add(3, (9, 9, 10, 10), (0, 0, 4, 4))
        score.add(4, None, (0, 0, 4, 4))
        figures[published] = score.scores().overall
    assert figures[False]["AP50"] == 2 / 5
    assert figures[True]["AP50"] == 3 / 5  # the first miss counts as the 0.75 before it
    assert figures[False]["mIoU"] == figures[True]["mIoU"] == pytest.approx(1.75 / 5)
    assert figures[False]["unanswered"] == 2 / 5


# --- labels and numbers -------------------------------------------------------------------------


@given(seeds)
def test_multi_label_agrees_with_arrays(seed):
    generator = np.random.default_rng(seed)
    names = ["a", "b", "c"]
    found, true = generator.random((2, 9, 3)) < 0.5
    score = MultiLabelScore(names)
    for f, t in zip(found, true, strict=True):
        score.add(
            [n for n, x in zip(names, f, strict=True) if x],
            [n for n, x in zip(names, t, strict=True) if x],
        )
    overall, by_class = score.scores().overall, score.scores().by_class
    assert overall["accuracy"] == (found == true).mean()
    assert overall["exact"] == (found == true).all(axis=1).mean()
    overlap = [(f & t).sum() / (f | t).sum() if (f | t).any() else 1 for f, t in zip(found, true, strict=True)]
    assert overall["overlap"] == pytest.approx(np.mean(overlap))
    for k, name in enumerate(names):
        both = (found[:, k] & true[:, k]).sum()
        assert by_class[name]["F1"] == pytest.approx(
            2 * both / (found[:, k].sum() + true[:, k].sum()) if found[:, k].any() or true[:, k].any() else math.nan,
            nan_ok=True,
        )


def test_single_label_counts_silence_as_wrong():
    score = SingleLabelScore(["a", "b"])
    for found, true in (("a", "a"), ("b", "a"), (None, "b"), ("b", "b")):
        score.add(found, true)
    scores = score.scores()
    assert scores.overall["accuracy"] == scores.overall["mean accuracy"] == 0.5
    assert scores.overall["unanswered"] == 0.25
    assert scores.confusion["a"] == {"a": 1, "b": 1, "(none)": 0}
    with pytest.raises(InputError, match="labels are"):
        score.add("c", "a")


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 9)), min_size=1))
def test_counting_agrees_with_arrays(rows):
    score = CountingScore()
    for label, found, true in rows:
        score.add(label, found, true)
    off = np.array([found - true for _, found, true in rows], float)
    assert score.scores().overall == pytest.approx(
        {
            "accuracy": (off == 0).mean(),
            "mean error": abs(off).mean(),
            "root mean square error": math.sqrt((off**2).mean()),
            "bias": off.mean(),
            "count": len(rows),
        }
    )


# --- captions -----------------------------------------------------------------------------------


def plain_cider(said):
    """CIDEr-D as its paper writes it, one formula after the other."""

    def grams(words, n):
        return [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]

    said = {name: (words_of(c), [words_of(r) for r in refs]) for name, (c, refs) in said.items()}
    documents = defaultdict(int)
    for _, refs in said.values():
        for gram in {g for r in refs for n in (1, 2, 3, 4) for g in grams(r, n)}:
            documents[gram] += 1

    def vector(words, n):
        every = grams(words, n)
        return {g: every.count(g) * (math.log(len(said)) - math.log(max(1, documents[g]))) for g in every}

    result = {}
    for name, (caption, refs) in said.items():
        total = 0.0
        for n in (1, 2, 3, 4):
            for ref in refs:
                c, r = vector(caption, n), vector(ref, n)
                norm = np.linalg.norm(list(c.values())) * np.linalg.norm(list(r.values()))
                dot = sum(min(c[g], r.get(g, 0)) * r.get(g, 0) for g in c)
                gap = len(grams(caption, 2)) - len(grams(ref, 2))
                total += (dot / norm if norm else 0.0) * math.exp(-(gap**2) / 72) / len(refs)
        result[name] = 10 * total / 4
    return result


sentences = st.lists(st.sampled_from(["a", "ship", "red", "lies", "at", "sea", "Sea", "."]), max_size=9).map(" ".join)


@given(
    st.dictionaries(
        st.sampled_from("pqrs"),
        st.tuples(sentences, st.lists(sentences, min_size=1, max_size=3)),
        min_size=1,
    )
)
def test_cider_agrees_with_its_formulas(said):
    score = CaptionScore()
    for name, (caption, references) in said.items():
        score.add(name, caption, references)
    assert score.by_picture() == pytest.approx(plain_cider(said), abs=1e-9)


def test_cider_of_one_own_words_and_of_silence():
    score = CaptionScore()
    score.add("1", "two red ships lie at sea", ["Two red ships lie at sea ."])
    score.add("2", "", ["green trees stand here"])
    every = score.by_picture()
    assert every["1"] == pytest.approx(10)
    assert every["2"] == 0
    with pytest.raises(InputError, match="already"):
        score.add("1", "x", ["y"])
    with pytest.raises(InputError, match="one or more"):
        score.add("3", "x", [])


# --- curves -------------------------------------------------------------------------------------


@given(seeds)
def test_curves_agree_with_thresholding_again_and_again(seed):
    generator = np.random.default_rng(seed)
    prob = generator.random((9, 11)).astype(np.float32)
    truth, known = generator.random((2, 9, 11)) < 0.5
    counts = chance_counts(prob, truth, known)
    for point in counts.curve()[::17]:
        found = (prob.astype(float) > point.threshold) & known
        right = (found & truth).sum()
        assert point.recall == pytest.approx(
            right / (truth & known).sum() if (truth & known).any() else math.nan, nan_ok=True
        )
        assert point.iou == pytest.approx(
            right / (found | truth & known).sum() if (found | truth & known).any() else math.nan,
            nan_ok=True,
        )
    if (truth & known).any():
        assert counts.best().iou == max(p.iou for p in counts.curve() if not math.isnan(p.iou))


def test_calibration_agrees_with_scipy():
    generator = np.random.default_rng(4)
    prob = generator.random((40, 50)).astype(np.float32)
    truth = generator.random((40, 50)) < prob**2
    rows = chance_counts(prob, truth).calibration(10)
    codes = encode(prob)
    middle = np.where(codes == 0, 0, (codes - 0.5) / 200).ravel()
    share, _, _ = stats.binned_statistic(middle, truth.ravel(), "mean", 10, (0, 1))
    chance, _, _ = stats.binned_statistic(middle, middle, "mean", 10, (0, 1))
    pixels, _, _ = stats.binned_statistic(middle, middle, "count", 10, (0, 1))
    assert np.allclose(rows, np.stack([chance, share, pixels], axis=1))
    expected = (pixels / pixels.sum() * abs(chance - share)).sum()
    assert chance_counts(prob, truth).calibration_error() == pytest.approx(expected)


def test_pixels_without_answer_or_truth_are_left_out():
    prob = np.array([[200, 254, 255, 10]], np.uint8)
    counts = chance_counts(prob, np.ones((1, 4), bool), np.array([[True, True, True, False]]))
    assert counts.true.sum() == 1
    with pytest.raises(InputError, match="nothing to choose"):
        ChanceCounts.none().best()


# --- merging ------------------------------------------------------------------------------------


def fill_referring(score, generator):
    score.add(generator.random((4, 4)) < 0.5, generator.random((4, 4)) < 0.5)


def fill_semantic(score, generator):
    score.add(generator.integers(0, 3, (4, 4)), generator.integers(0, 3, (4, 4)))


def fill_detection(score, generator):
    found, chance = random_boxes(generator, 5, ties=True)
    true, _ = random_boxes(generator, 3)
    score.add(f"p{generator.integers(10**9)}", "ship", found, chance, true)


def fill_grounding(score, generator):
    boxes, _ = random_boxes(generator, 2)
    answer = None if generator.random() < 0.3 else boxes[0]
    score.add(int(generator.integers(10**9)), answer, boxes[1])


def fill_multi(score, generator):
    found, true = generator.random((2, 3)) < 0.5
    score.add(
        [n for n, x in zip("abc", found, strict=True) if x],
        [n for n, x in zip("abc", true, strict=True) if x],
    )


def fill_single(score, generator):
    score.add(generator.choice(["a", "b", None]), str(generator.choice(["a", "b"])))


def fill_counting(score, generator):
    score.add("ab"[generator.integers(2)], *generator.integers(0, 5, 2).tolist())


def fill_captions(score, generator):
    words = ["red", "ship", "sea", "a"]
    score.add(
        f"p{generator.integers(10**9)}",
        " ".join(generator.choice(words, 5)),
        [" ".join(generator.choice(words, 6)) for _ in range(2)],
    )


KINDS = {
    "referring": (ReferringScore, fill_referring),
    "semantic": (lambda: SemanticScore(["x", "y", "z"]), fill_semantic),
    "detection": (DetectionScore, fill_detection),
    "grounding": (lambda: GroundingScore(published=True), fill_grounding),
    "multi": (lambda: MultiLabelScore(["a", "b", "c"]), fill_multi),
    "single": (lambda: SingleLabelScore(["a", "b"]), fill_single),
    "counting": (CountingScore, fill_counting),
    "captions": (CaptionScore, fill_captions),
}


@pytest.mark.parametrize("kind", KINDS)
@given(seeds, st.lists(st.integers(0, 12), min_size=1, max_size=3).map(sorted))
def test_merged_equals_one_pass(kind, seed, cuts):
    make, fill = KINDS[kind]
    whole, generator = make(), np.random.default_rng(seed)
    for _ in range(12):
        fill(whole, generator)
    parts, generator = [], np.random.default_rng(seed)
    for low, high in pairwise([0, *cuts, 12]):
        parts.append(make())
        for _ in range(high - low):
            fill(parts[-1], generator)
    merged = parts.pop()  # and in another order
    for part in reversed(parts):
        merged.merge(part)
    assert same(merged.scores(), whole.scores())


@given(seeds)
def test_counts_of_chances_add_up(seed):
    generator = np.random.default_rng(seed)
    prob, truth = generator.random((6, 6)).astype(np.float32), generator.random((6, 6)) < 0.5
    halves = chance_counts(prob[:2], truth[:2]) + chance_counts(prob[2:], truth[2:])
    whole = chance_counts(prob, truth)
    assert (halves.true == whole.true).all()
    assert (halves.false == whole.false).all()
