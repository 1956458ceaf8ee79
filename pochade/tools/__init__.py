"""Tools that draw many pictures, measure, or look into files; the pipeline does not know them."""
