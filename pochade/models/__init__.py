"""The models of Stable Diffusion, each written once in the vocabulary of `pochade.ops`."""
