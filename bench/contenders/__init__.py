"""The contenders: each module runs the same network in one way. Heavy imports are inside functions."""
