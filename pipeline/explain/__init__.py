"""Looking into trained networks: where they look, how their features lie, what their loss looks like.

Everything takes an `nn.Module` and plain tensors or arrays, so that it serves every model of the project.
"""
