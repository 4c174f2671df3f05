"""One Great Expectations suite for each table that passes between stages; `streetrecall.stages.check` runs them."""
