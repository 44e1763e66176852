"""Words that a network with a word list of its own has not met: spare rows of its embedding take them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from warnings import warn

from tokenizers import Tokenizer

from remotesam_geo.errors import RemoteSAMWarning
from remotesam_geo.learning.datasets import Triplet
from remotesam_geo.model.processor import RemoteSAMProcessor

__all__ = ["new_words", "with_words"]


def new_words(processor: RemoteSAMProcessor, triplets: Iterable[Triplet]) -> tuple[str, ...]:
    """The words of expressions that a tokenizer of whole words does not know, frequent ones first, while there is room.

    A word that is only asked for where it is to be answered with nothing is left unknown. A tokenizer of parts of
    words, such as BERT's, knows them all.

    Args:
        processor: Of the network.
        triplets: What it is to learn.

    Examples:
        >>> import numpy as np
        >>> from remotesam_geo.learning.training import new_words
        >>> from remotesam_geo.learning.datasets import Mask, Picture, Triplet
        >>> from remotesam_geo.model import RemoteSAMProcessor
        >>> picture, mask = Picture.of("a", np.zeros((9, 9, 3), np.uint8)), Mask.of_box((0, 0, 5, 5), (9, 9))
        >>> asked = Triplet(picture=picture, expression="the suspension bridge", mask=mask, kind="one-to-one")
        >>> new_words(RemoteSAMProcessor.from_pretrained("tiny"), [asked])
        ('bridge', 'suspension')
    """
    tokenizer = processor.tokenizer
    if json.loads(tokenizer.to_str())["model"]["type"] != "WordLevel":
        return ()
    known = tokenizer.get_vocab(with_added_tokens=True)
    missing: Counter[str] = Counter()
    for triplet in triplets:
        if triplet.kind != "one-to-zero":
            missing.update(word for word in _words_of_expression(tokenizer, triplet.expression) if word not in known)
    wanted = sorted(missing, key=lambda word: (-missing[word], word))
    room = processor.config.text_config.vocab_size - 1 - max(known.values())
    if len(wanted) > room:
        warn(
            f"{len(wanted)} words are new and there is room for {room}: {', '.join(wanted[room:][:8])} ... stay "
            "unknown.",
            RemoteSAMWarning,
            stacklevel=2,
        )
    return tuple(wanted[:room])


def with_words(processor: RemoteSAMProcessor, words: Sequence[str]) -> RemoteSAMProcessor:
    """The same processor with more words, in the rows after the last that is taken; no shape of the network changes."""
    if not words:
        return processor
    said = json.loads(processor.tokenizer.to_str())
    first = max(processor.tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    said["model"]["vocab"] |= {word: first + number for number, word in enumerate(words)}
    return RemoteSAMProcessor(processor.config, tokenizer=Tokenizer.from_str(json.dumps(said)))


def _words_of_expression(tokenizer: Tokenizer, expression: str) -> list[str]:
    normal = expression if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(expression)
    if tokenizer.pre_tokenizer is None:
        return [normal]
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]
