"""Edit recorded episodes: streamed, batched, resumable and checked.

``source -> blocks of rows -> EditEngine -> rows -> output store -> read back``
"""
