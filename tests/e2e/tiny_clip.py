"""The small video that these tests run on."""

FRAMES = 10
SIZE = (108, 192)
"""(height, width)"""
