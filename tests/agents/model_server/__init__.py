"""A scripted model server on loopback, so that real agent programs run without any network.

It speaks the wires of the providers, one module each, and plays a `Script`: shell commands as tool
calls, then a text, or one kind of trouble with the provider's own error body. It keeps no
conversation: the step is chosen by counting the tool calls in the history that a request brings.
"""
