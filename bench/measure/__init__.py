"""What every benchmark needs: the machine, processes that take turns, and records of what they measured."""
