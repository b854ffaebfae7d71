"""Conversion edits recorded episodes: streaming, batched, resumable and checked.

``source -> blocks of rows -> EditEngine -> rows -> output store -> read back``
"""
