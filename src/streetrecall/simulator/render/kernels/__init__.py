"""The ray caster, compiled by numba. `compiled` holds what Python calls; every other module is a part of these.

numba keeps the machine code beside the source, or in ``NUMBA_CACHE_DIR``. Its cache notices an edit of the file of the
function that Python calls, but not of a file that this function uses, so `compiled` adds a hash of all sources.
"""
