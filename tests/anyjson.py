"""Any JSON, for property tests of parsers; an alphabet of few letters is enough, and fast."""

from __future__ import annotations

from hypothesis import strategies as st

TEXT = st.text(alphabet="ab19.,-:é/\\ \x00\u202e\ud800", max_size=12)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=5,
)
