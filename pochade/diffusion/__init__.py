"""Diffusion: noise schedules, parametrizations, guidance, samplers and noise.

This package does not depend on models or engines. A latent is anything with the operators `+ - * /` that
works with Python floats: a numpy array, or a torch tensor on a GPU. The samplers work in the
variance-exploding frame of Karras et al. 2022: `x = data + sigma * noise`, from sigma_max down to 0.
"""
