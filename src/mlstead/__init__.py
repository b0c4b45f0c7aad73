"""The public names of mlstead, loaded when first used."""
