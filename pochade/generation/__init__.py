"""From a request and networks to pictures: conditioning, the canvas, the denoise loop."""
