"""How fast this machine estimates poses, and where the time goes."""

from vidpose.bench.run import BenchReport, run_bench

__all__ = ["BenchReport", "run_bench"]
