"""Diffusion as arithmetic: schedules, parametrizations, guidance, samplers and noise.

Nothing here knows a model or an engine. A latent is anything with the operators `+ - * /` that mixes with
Python floats: a numpy array, a torch tensor on a GPU. The samplers work in the variance-exploding frame of
Karras et al. 2022: `x = data + sigma * noise`, from sigma_max down to 0.
"""
