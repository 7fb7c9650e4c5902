"""The Open Inference Protocol V2 over HTTP, as Triton and its clients speak it, over the data plane.

Specification: https://github.com/kserve/open-inference-protocol and, for the extensions,
https://github.com/triton-inference-server/server/tree/main/docs/protocol
"""
