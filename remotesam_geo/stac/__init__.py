"""STAC catalogues: search them, read their items, save what was found."""
