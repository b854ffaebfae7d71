"""The episode store: a zarr group that Diffusion Policy's code reads and that a kill leaves whole.

``EpisodeWriter -> appending -> commit -> EpisodeStore``; the format is described in
:class:`spie_robo.data.store.episode_store.EpisodeStore`.
"""
