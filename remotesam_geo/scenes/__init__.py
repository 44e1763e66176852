"""Search a catalogue, load its scenes lazily, and render them to 8-bit RGB with validity."""
