"""Where a diffusion model comes from: a folder, a single file, a hub; what is in it and missing."""
