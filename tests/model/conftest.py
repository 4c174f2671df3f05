from tinycrops import tiny_crops, tiny_town

__all__ = ["tiny_crops", "tiny_town"]
