from bundlefixtures import photos, tiny_bundle, town

__all__ = ["photos", "tiny_bundle", "town"]
