import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotesam_geo.model.processor import bert_tokenizer
from remotesam_geo.words import plural
from remotesam_geo.words.english import basic_words, pluralize, spelling


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("ship", "ships"),
        ("beach", "beaches"),
        ("bus", "buses"),
        ("gas", "gases"),
        ("church", "churches"),
        ("box", "boxes"),
        ("city", "cities"),
        ("quay", "quays"),
        ("volcano", "volcanoes"),
        ("silo", "silos"),
        ("oasis", "oases"),
        ("roof", "roofs"),
        ("wharf", "wharves"),
        ("fisherman", "fishermen"),
        ("person", "people"),
        ("hovercraft", "hovercraft"),
        ("earthworks", "earthworks"),
        ("ruins", "ruins"),
        ("farmland", "farmland"),
        ("wetland", "wetlands"),
        ("queue of people", "queues of people"),
        ("building under construction", "buildings under construction"),
        ("ice shelf", "ice shelves"),
        ("Storage Tank", "Storage Tanks"),
        ("x-ray", "x-rays"),
        ("building (old)", "building (old)"),
    ],
)
def test_plurals(one, many):
    assert pluralize(one) == many
    assert pluralize(many) == many, "what is plural stays"


def test_plural_prefers_the_vocabulary():
    assert plural("small vehicle") == "small vehicles"
    assert plural("gravel") == "gravel"
    assert plural("vehicle or craft") == "vehicles and craft"
    assert plural("plane") == "planes", "a synonym keeps the user's word"
    assert plural("blue tractor") == "blue tractors"


@given(st.text(max_size=30))
def test_any_text_has_a_plural_and_a_spelling(text):
    pluralize(text)
    assert spelling(spelling(text)) == spelling(text)


# Latin, Greek and Cyrillic: further on, versions of Unicode differ, and BERT splits Chinese.
ALIKE = st.characters(codec="utf-8", exclude_categories=["Cn"], max_codepoint=0x52F)
BERT = bert_tokenizer()


@given(st.text(ALIKE) | st.lists(st.sampled_from(["Café", "a-b", "x_y", "3.5", "Åre"])).map(" ".join))
def test_basic_words_are_those_of_bert(text):
    normal = BERT.normalizer.normalize_str(text)
    assert basic_words(text) == [word for word, _ in BERT.pre_tokenizer.pre_tokenize_str(normal)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("storage tank", "storagetank"),
        ("Expressway-Service-area", "expressway service area"),
        ("Ground_Track_Field", "groundtrackfield"),
        ("harbour", "Harbor"),
        ("ploughed field", "plowedfield"),
        ("Sea & Lake", "sea and lake"),
        ("CAFÉ", "cafe"),
    ],
)
def test_spellings_that_agree(one, other):
    assert spelling(one) == spelling(other)
