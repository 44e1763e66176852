"""Catalogues by name, and near matches for names that are not quite right."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches


@dataclass(frozen=True, kw_only=True, slots=True)
class Catalog:
    """A catalogue that can be searched by name.

    Args:
        name: What `search` takes.
        url: Its root.
        holds: What is worth knowing of what it holds.
        static: Whether it is a tree of files, which must be walked to be searched.
    """

    name: str
    url: str
    holds: str
    static: bool = False


_TABLE = (
    Catalog(
        name="planetary-computer",
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        holds="NAIP, Sentinel-1 and -2, Landsat and much more; signed as it is read",
    ),
    Catalog(
        name="earth-search",
        url="https://earth-search.aws.element84.com/v1",
        holds="Sentinel-2 and Landsat in Amazon's open data; no account",
    ),
    Catalog(
        name="copernicus",
        url="https://stac.dataspace.copernicus.eu/v1",
        holds="Sentinel missions at their source; reading pixels takes S3 keys of an account",
    ),
    Catalog(
        name="usgs-landsat",
        url="https://landsatlook.usgs.gov/stac-server",
        holds="Landsat Collection 2; its bucket is requester-pays",
    ),
    Catalog(
        name="openaerialmap",
        url="https://api.imagery.hotosm.org/stac",
        holds="open aerial and drone pictures from all over the world",
    ),
    Catalog(
        name="swisstopo",
        url="https://data.geo.admin.ch/api/stac/v1",
        holds="Switzerland, aerial pictures of 10 cm among them",
    ),
    Catalog(
        name="nz-imagery",
        url="https://nz-imagery.s3-ap-southeast-2.amazonaws.com/catalog.json",
        holds="New Zealand, aerial pictures of 5 cm and coarser",
        static=True,
    ),
    Catalog(
        name="maxar-open-data",
        url="https://maxar-opendata.s3.amazonaws.com/events/catalog.json",
        holds="pictures of 30 to 50 cm after disasters; not for commerce (CC BY-NC 4.0)",
        static=True,
    ),
    Catalog(
        name="brazil-data-cube",
        url="https://data.inpe.br/bdc/stac/v1",
        holds="CBERS, Amazonia-1, Sentinel-2 and Landsat over South America",
    ),
    Catalog(
        name="dea",
        url="https://explorer.dea.ga.gov.au/stac",
        holds="Digital Earth Australia: Sentinel-2 and Landsat, analysis-ready",
    ),
    Catalog(
        name="deafrica",
        url="https://explorer.digitalearth.africa/stac",
        holds="Digital Earth Africa: Sentinel-1 and -2, Landsat, yearly mosaics",
    ),
    Catalog(
        name="dep",
        url="https://stac.digitalearthpacific.org",
        holds="Digital Earth Pacific: mosaics of Sentinel-2 and Landsat",
    ),
)

CATALOGS = {catalog.name: catalog for catalog in _TABLE}


def near_matches(name: str, known: Iterable[str], *, most: int = 5) -> list[str]:
    """Known names that may have been meant.

    Args:
        name: As written.
        known: What there is.
        most: How many are returned.

    Returns:
        The nearest first.

    Examples:
        >>> near_matches("sentinel2", ["naip", "landsat-c2-l2", "sentinel-2-l2a"])
        ['sentinel-2-l2a']
        >>> near_matches("planetary computer", CATALOGS)
        ['planetary-computer']
    """
    plain: dict[str, list[str]] = {}
    for candidate in known:
        plain.setdefault(_letters_of_catalog_name(candidate), []).append(candidate)
    wanted = _letters_of_catalog_name(name)
    close = get_close_matches(wanted, plain, n=most, cutoff=0.6)
    inside = [key for key in plain if min(len(key), len(wanted)) > 2 and (wanted in key or key in wanted)]
    ranked = [candidate for key in (*close, *inside) for candidate in plain[key]]
    return list(dict.fromkeys(ranked))[:most]


def _letters_of_catalog_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown name: near matches, or some of what there is.

    Examples:
        >>> did_you_mean("nap", ["naip", "landsat"])
        "did you mean 'naip'?"
    """
    there = sorted(set(known))
    near = near_matches(name, there)
    if near:
        return f"did you mean {' or '.join(map(repr, near))}?"
    shown = ", ".join(map(repr, there[:8]))
    return f"there is {shown}{f' and {len(there) - 8} more' if len(there) > 8 else ''}."
