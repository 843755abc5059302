"""Pixels in, pixels out: decoding, detectors, crops, their quality, and the shards they are packed in."""
