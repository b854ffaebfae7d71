"""The episode store: a zarr group that Diffusion Policy reads and that survives a kill.

``EpisodeWriter -> appending -> commit -> EpisodeStore``; the format is described in
:class:`spie_robo.data.store.episode_store.EpisodeStore`.
"""
