"""Tools on top of the pipeline: grids of pictures, interpolation, benchmarks, conversion and inspection."""
