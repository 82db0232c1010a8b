"""Procedural faces with a known posterior.

``latents`` lists the properties that are drawn for each face, ``canvas`` paints simple shapes,
``parts`` composes them into faces, and ``distribution`` draws faces and samples their posterior.
"""
