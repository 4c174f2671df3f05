"""The renderer: pictures of the simulated city.

`renderer` draws a panorama in any direction. It takes the parts of the city that are near from `scene`, the tables of
the whole city from `city_tables`, what facades, trees and people are made of from `textures`, and lets `kernels` cast
the rays. `develop` does what a camera does with the light.
"""
