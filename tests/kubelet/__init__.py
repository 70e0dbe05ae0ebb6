"""A kubelet's pod-resources service, spoken by gRPC's own implementation."""
