"""Lifeboat's benchmark: the same work by lifeboat and by its peers, in turns, on one machine. `testbed/bench/run` starts it."""
