"""Side-by-side timings against peers, on the same cores, with the errors beside the times."""

import os

# Read when NumPy, torch and XLA are loaded, which is after this.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
