"""Recipes without the secrets of signed addresses."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from remotesam_geo.net.credentials import secrets_in, stripped
from remotesam_geo.net.policy import ReadPolicy

if TYPE_CHECKING:
    from remotesam_geo.net.auth import Signer

    from .recipe import Layer, Recipe

__all__ = ["without_secrets"]


def without_secrets(recipe: "Recipe", policy: ReadPolicy | None) -> "Recipe":
    """A recipe with unsigned addresses, as far as a signer of the policy signs them again at each read.

    Args:
        recipe: Of a scene.
        policy: How it is read; None for the default.

    Raises:
        InputError: An address holds a secret that no signer makes again.
    """
    policy = ReadPolicy() if policy is None else policy
    layers = tuple(_layer_without_secrets(layer, policy.signers) for layer in recipe.layers)
    clean = replace(recipe, layers=layers)
    clean.to_dict()  # refuses what is left
    return clean


def _layer_without_secrets(layer: "Layer", signers: Sequence["Signer"]) -> "Layer":
    return replace(
        layer,
        origin=stripped(layer.origin) if layer.origin and secrets_in(layer.origin) else layer.origin,
        sources=tuple(replace(source, href=_unsigned_href(source.href, signers)) for source in layer.sources),
    )


def _unsigned_href(href: str, signers: Sequence["Signer"]) -> str:
    if not secrets_in(href):
        return href
    bare = stripped(href)
    return bare if any(signer.covers(bare) for signer in signers) else href
