"""Small maps in which everything that can go wrong does: corners, holes, nests, missing answers, edges."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

sides = st.integers(1, 12)
shapes = st.tuples(sides, sides)

codes = st.sampled_from([0, 1, 60, 100, 101, 140, 199, 200, 254, 255])
thresholds = st.integers(0, 199).map(lambda steps: steps / 200)


def maps(shape=shapes):
    """Byte maps, float32 and float16 maps."""
    floats = st.sampled_from([0.0, 0.003, 0.3, 0.5, 0.50001, 0.7, 0.995, 1.0])
    return st.one_of(
        hnp.arrays(np.uint8, shape, elements=codes),
        hnp.arrays(np.float32, shape, elements=floats.map(lambda p: float(np.float32(p)))),
        hnp.arrays(np.float16, shape, elements=floats.map(lambda p: float(np.float16(p)))),
    )


@st.composite
def maps_and_contours(draw):
    shape = draw(shapes)
    return draw(maps(shape)), draw(maps(shape))


@st.composite
def masks(draw, shape=shapes):
    """Float32 maps of objects that are mostly certain: few values, so that shapes matter."""
    density = draw(st.sampled_from([0.2, 0.45, 0.7]))
    size = draw(shape)
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    return np.where(rng.random(size) < density, rng.uniform(0.55, 1, size), 0).astype(np.float32)


@st.composite
def cuts(draw, length):
    """Borders that cut 0..length into blocks."""
    inner = draw(st.sets(st.integers(1, length - 1), max_size=4)) if length > 1 else set()
    return [0, *sorted(inner), length]
