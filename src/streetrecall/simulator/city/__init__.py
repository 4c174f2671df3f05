"""The plan of the simulated city: streets, blocks, buildings, what is in the street, and the panoramas taken of it.

`plan` puts the parts together; each other module makes one of them. The renderer and the service build on this package,
and it imports neither.
"""
