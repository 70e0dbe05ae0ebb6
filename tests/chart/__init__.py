"""The Helm chart, rendered and checked without Helm."""
