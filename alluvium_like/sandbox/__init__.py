"""The box that agents run in: what they reach of the machine and of the network."""
