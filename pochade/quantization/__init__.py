"""Which 8-bit grids a model's products get, from what was seen of their inputs; and the file of them."""
