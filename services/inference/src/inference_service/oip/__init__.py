"""The Open Inference Protocol, version 2, with the extensions of Triton: over REST and over gRPC."""
