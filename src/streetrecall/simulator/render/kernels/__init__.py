"""The ray caster, compiled by numba. `compiled` holds what Python calls; every other module is a part of these.

numba keeps the machine code beside the source, or in ``NUMBA_CACHE_DIR``. Its cache notices an edit of the module that
holds the function which Python calls, but not an edit of a module that this function uses. So `compiled` makes a hash
of all sources a part of the key.
"""
