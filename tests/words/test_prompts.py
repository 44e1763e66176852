import warnings
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from remotesam_geo.errors import InputError, RemoteSAMWarning
from remotesam_geo.model.processor import RemoteSAMProcessor
from remotesam_geo.words import (
    CLASS_TEMPLATE,
    Prompt,
    distinct_expressions,
    parse_prompts,
    vocabulary,
)
from remotesam_geo.words.english import basic_words

PROCESSOR = RemoteSAMProcessor()
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=15).filter(
    lambda text: any(character.isalnum() for character in text)
)
distinct_names = st.lists(names, min_size=1, max_size=6, unique_by=lambda name: tuple(basic_words(name)))
thresholds = st.integers(0, 200).map(lambda steps: steps / 200)


def tidy(text):
    return " ".join(text.split())


# What is understood


def test_a_bare_name_is_asked_as_the_network_was_taught():
    (prompt,) = parse_prompts("storage tank", template=CLASS_TEMPLATE)
    assert prompt == Prompt(label="storage tank", expressions=("storage tank in the image",))
    assert (prompt.threshold, prompt.resolution) == (0.5, None)


def test_free_expressions_are_asked_as_they_are():
    (prompt,) = parse_prompts("the white car by the gate")
    assert prompt.expressions == (prompt.label,) == ("the white car by the gate",)


def test_a_mapping_is_asked_as_it_is_in_class_verbs_too():
    roof, ship = parse_prompts(
        {"red roof": "the buildings with a red roof", "ship": ["a ship", "a boat"]},
        template=CLASS_TEMPLATE,
    )
    assert roof.expressions == ("the buildings with a red roof",)
    assert ship.expressions == ("a ship", "a boat")


def test_prompts_are_taken_over_and_what_is_said_beside_them_wins():
    own = Prompt(label="ship", expressions=("a ship",), threshold=0.3, resolution=0.5)
    assert parse_prompts([own, "car"], template=CLASS_TEMPLATE)[0] == own
    assert parse_prompts(own) == (own,)
    (changed,) = parse_prompts(own, threshold=0.4, resolution="native")
    assert changed == replace(own, threshold=0.4, resolution=None)


def test_thresholds_and_resolutions_by_label():
    airport, airplane, car = parse_prompts(
        ["airport", "Airplane", "car"],
        template=CLASS_TEMPLATE,
        threshold={"airplane": 0.4},
        resolution={"airport": 5, "airplane": "auto"},
    )
    assert (airport.threshold, airplane.threshold, car.threshold) == (0.5, 0.4, 0.5)
    assert (airport.resolution, airplane.resolution, car.resolution) == (5.0, "auto", None)


def test_numbers_of_numpy_are_numbers():
    (prompt,) = parse_prompts("car", threshold=np.float32(0.35), resolution=np.int64(2))
    assert (prompt.threshold, prompt.resolution) == (0.35, 2.0)


@given(distinct_names)
def test_every_name_becomes_one_prompt_in_order(given_names):
    parsed = parse_prompts(given_names, template=CLASS_TEMPLATE, suggest=False)
    assert [prompt.label for prompt in parsed] == [tidy(name) for name in given_names]
    assert [p.expressions for p in parsed] == [(f"{p.label} in the image",) for p in parsed]
    assert parse_prompts(parsed, template=CLASS_TEMPLATE) == parsed
    said = {p.label: p.expressions for p in parsed}
    assert parse_prompts(said, template=CLASS_TEMPLATE) == parsed


@given(distinct_names, st.data())
def test_a_label_said_twice_is_refused(given_names, data):
    again = data.draw(st.sampled_from(given_names))
    assume(again.swapcase().lower() == again.lower())
    with pytest.raises(InputError, match="is there twice"):
        parse_prompts([*given_names, again.swapcase()])


@given(distinct_names, thresholds, thresholds)
def test_thresholds_find_their_labels(given_names, one, other):
    parsed = parse_prompts(given_names, threshold=one)
    assert {prompt.threshold for prompt in parsed} == {one}
    first, *rest = parse_prompts(given_names, threshold={given_names[0]: other})
    assert first.threshold == other
    assert all(prompt.threshold == 0.5 for prompt in rest)


@given(st.floats())
def test_a_threshold_is_rounded_up_to_the_next_step(value):
    if 0 <= value <= 1:
        (prompt,) = parse_prompts("car", threshold=value)
        assert round(prompt.threshold * 200, 9).is_integer()
        assert -1e-6 < prompt.threshold - value < 0.005
        assert parse_prompts("car", threshold=prompt.threshold) == (prompt,)
    else:
        with pytest.raises(InputError, match="threshold of 'car' is"):
            parse_prompts("car", threshold=value)


# What is refused


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], r"no prompt in \[\]"),
        ({}, r"no prompt in \{\}"),
        ("", "a prompt is '', which holds no word"),
        ("  ", "holds no word"),
        (["car", "!?"], r"'!\?', which holds no word"),
        (["car", 3], "a prompt is 3 of type int"),
        (7, "prompts are 7: give a text, a list of texts, or a mapping"),
        (b"car", "prompts are b'car'"),
        ({"car": []}, "'car' has no expression"),
        ({"car": ""}, "an expression of 'car' is ''"),
        ({"car": None}, "'car' maps to None"),
        ({"car": ["a car", 1]}, "an expression of 'car' is 1 of type int"),
        ({"": "a car"}, "a label is ''"),
        ({3: "a car"}, "a label is 3 of type int"),
        (["car", "car"], "the label 'car' is there twice: "),
        (["car", "Cár"], r"the label 'Cár' is there twice \(also as 'car'\)"),
        ({"car": "a car", "CAR": "a van"}, r"'CAR' is there twice \(also as 'car'\)"),
    ],
)
def test_prompts_that_cannot_be_asked(prompts, message):
    with pytest.raises(InputError, match=message):
        parse_prompts(prompts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 1.5}, "is 1.5: give a number from 0 to 1"),
        ({"threshold": float("nan")}, "is nan"),
        ({"threshold": "0.5"}, "is '0.5': give a number"),
        ({"threshold": True}, "is True: give a number"),
        ({"threshold": {"ship": None}}, "is None: give a number"),
        ({"threshold": {"shp": 0.4}}, "for 'shp', which is not asked; did you mean 'ship'?"),
        ({"threshold": {"tank": 0.4}}, "which is not asked The labels|which is not asked. The"),
        ({"threshold": {3: 0.4}}, "for 3, which is not asked"),
        ({"threshold": {"ship": 0.4, "SHIP": 0.5}}, "given twice for 'ship'"),
        ({"resolution": 0}, "the resolution is 0: give metres a pixel above 0"),
        ({"resolution": -1.0}, "is -1.0"),
        ({"resolution": float("inf")}, "is inf"),
        ({"resolution": "10m"}, "is '10m'"),
        ({"resolution": True}, "is True"),
        ({"resolution": {"crane": 2}}, "a resolution is given for 'crane'"),
        ({"template": "in the image"}, "has no place for the class: write '{name}'"),
    ],
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(InputError, match=message):
        parse_prompts(["ship", "car"], **options)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"expressions": "a ship"}, "give a tuple of texts"),
        ({"expressions": ()}, "no expression"),
        ({"label": " "}, "holds no word"),
        ({"threshold": 1.001}, "give a number from 0 to 1"),
        ({"resolution": "fine"}, "is 'fine'"),
    ],
)
def test_a_prompt_checks_itself(values, message):
    with pytest.raises(InputError, match=message):
        Prompt(**{"label": "ship", "expressions": ("a ship",), **values})


def test_a_prompt_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        parse_prompts("ship")[0].threshold = 0.4


# What is warned of


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("storagetank", "storage tank"),
        ("helicoptor", "helicopter"),
        ("storage tnaks", "storage tank"),
        ("groundtrackfield", "ground track field"),
    ],
)
def test_a_near_miss_is_asked_as_written_with_a_suggestion(name, meant):
    with pytest.warns(RemoteSAMWarning, match=f"{name!r}.*did you mean '{meant}'") as caught:
        (prompt,) = parse_prompts([name], template=CLASS_TEMPLATE)
    assert prompt.expressions == (f"{name} in the image",)
    assert caught[0].filename == __file__


@given(st.sampled_from(list(vocabulary())))
def test_known_names_are_asked_without_a_word(category):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parse_prompts([category.name, *category.synonyms], template=CLASS_TEMPLATE)
        parse_prompts(category.plural.replace(" ", "_"), template=CLASS_TEMPLATE)


@pytest.mark.parametrize("name", ["red canoes at sea", "my house", "xqzw", "shp", "tall palm trees"])
def test_what_is_nothing_like_a_category_is_asked_without_a_word(name):
    parse_prompts(name, template=CLASS_TEMPLATE)


def test_free_expressions_and_mappings_get_no_suggestion():
    parse_prompts("helicoptor")
    parse_prompts({"helicoptor": "a helicoptor"}, template=CLASS_TEMPLATE)
    parse_prompts("helicoptor", template=CLASS_TEMPLATE, suggest=False)


def test_words_that_are_not_read_are_shown():
    expression = "a " * 17 + "ship beside the long pier"
    with pytest.warns(RemoteSAMWarning, match="does not read 'the long pier'") as caught:
        parse_prompts(expression)
    assert caught[0].filename == __file__
    with pytest.warns(RemoteSAMWarning, match="does not read 'the long pier'"):
        parse_prompts(expression, cut_words=PROCESSOR.cut_words)
    parse_prompts("a " * 16 + "long ship pier")  # 19 words and the mark of the beginning


@given(st.lists(st.sampled_from(["a", "ship", "aeroplane", "café", "Tórshavn"]), min_size=1))
def test_without_a_tokenizer_no_warning_is_false(words):
    expression = " ".join(words)
    cut = {}
    for how, cut_words in (("without", None), ("with", PROCESSOR.cut_words)):
        with warnings.catch_warnings(record=True) as cut[how]:
            warnings.simplefilter("always")
            parse_prompts(expression, cut_words=cut_words)
    assert len(cut["without"]) <= len(cut["with"])


# What is asked once


def encode(expression):
    return PROCESSOR.tokenizer.encode(expression).ids


@pytest.mark.parametrize("tokenize", [None, encode])
def test_expressions_that_are_read_alike_are_asked_once(tokenize):
    prompts = parse_prompts({"a": "The  ship", "b": ["a pier", "the SHIP"], "c": "a piér"})
    asked, answers = distinct_expressions(prompts, tokenize)
    assert asked == ("The ship", "a pier")
    assert answers == ((0,), (1, 0), (1,))


@given(st.lists(st.lists(st.sampled_from(["x", "X", "y", "y z", "Y  Z"]), min_size=1), max_size=5))
def test_asking_once_loses_nothing(expressions):
    prompts = [Prompt(label=f"p{i}", expressions=tuple(e)) for i, e in enumerate(expressions)]
    asked, answers = distinct_expressions(prompts)
    read = [tuple(basic_words(text)) for text in asked]
    assert len(set(read)) == len(read)
    for prompt, places in zip(prompts, answers, strict=True):
        assert len(set(places)) == len(places)
        assert {read[place] for place in places} == {tuple(basic_words(text)) for text in prompt.expressions}
