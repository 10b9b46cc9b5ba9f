"""
SLURM and a store on S3
=======================

Ingest on a cluster, into an object store. It is tried here on a cluster of two workers and on a
server of S3's protocol on this machine; with SLURM and MinIO only the two addresses change. The
corpus is a simulated DEAP. This needs ``pip install 'omfa[s3]' dask-jobqueue 'moto[server]'``.
"""

# %%
# An object store
# ---------------
# Keys and addresses come from the environment, for every worker too, so that no file holds them.
# For MinIO, in the shell or in the sbatch file below::
#
#     export AWS_ACCESS_KEY_ID=...  AWS_SECRET_ACCESS_KEY=...
#     export AWS_ENDPOINT_URL=http://minio.example.org:9000
#     export AWS_DEFAULT_REGION=us-east-1
#
# AWS itself needs no ``AWS_ENDPOINT_URL``. Here a server for tests stands in for both.

import logging
import os
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import s3fs
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not a line for every request
server.start()
host, port = server.get_host_and_port()
os.environ |= {
    "AWS_ACCESS_KEY_ID": "tutorial",
    "AWS_SECRET_ACCESS_KEY": "tutorial",
    "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    "AWS_DEFAULT_REGION": "us-east-1",
}
bucket = s3fs.S3FileSystem()
bucket.mkdir("lab")

# %%
# A cluster
# ---------
# dask-jobqueue asks SLURM for workers and takes them back. A worker is a core with memory for a few
# recordings at once: 4 GB are enough for SEED. This is the job that it would submit.

from dask_jobqueue import SLURMCluster

slurm = SLURMCluster(
    queue="cpu",
    cores=1,
    memory="4GB",
    walltime="02:00:00",
    job_script_prologue=["source ~/omfa/.venv/bin/activate", "export OMP_NUM_THREADS=1"],
    n_workers=0,
    scheduler_options={"dashboard_address": None},
)
script = slurm.job_script()
print("\n".join(line for line in script.splitlines() if "dask_worker" not in line))
slurm.close()

# %%
# Without it, one sbatch file does: a scheduler, workers on every node, and the command. Submit it
# with ``sbatch ingest.sh``; submit it again after an interruption, and it goes on::
#
#     #!/bin/bash
#     #SBATCH --job-name=omfa  --partition=cpu  --time=02:00:00
#     #SBATCH --ntasks=16  --cpus-per-task=1  --mem-per-cpu=4G
#     source ~/omfa/.venv/bin/activate
#     source ~/.omfa-s3                 # the exports above; chmod 600
#     export OMP_NUM_THREADS=1
#     dask scheduler --port 8786 &
#     srun dask worker tcp://$(hostname):8786 --nthreads 1 --memory-limit 4GB &
#     omfa-ingest deap /data/DEAP s3://lab/deap.zarr --scheduler tcp://$(hostname):8786
#     omfa-ingest verify s3://lab/deap.zarr
#
# The raw files have to be where every worker sees them, under one path.

# %%
# Ingest
# ------
# ``SLURMCluster`` in place of ``LocalCluster`` and ``cluster.scale(jobs=16)`` is all that differs.

from distributed import LocalCluster

from omfa.pipeline import ingest, open_store, simulate

temporary = tempfile.TemporaryDirectory()
raw = Path(temporary.name) / "DEAP"
simulate("deap", raw, subjects=4, seconds=6, progress=False)

here = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
with LocalCluster(**here, dashboard_address=None) as cluster:
    summary = ingest(
        "deap", raw, "s3://lab/deap.zarr", scheduler=cluster.scheduler_address, progress=False
    )
print(Counter(outcome.status for outcome in summary.outcomes))

# %%
# Run again, nothing is done twice: what is left to do is what the store does not have.

again = ingest("deap", raw, "s3://lab/deap.zarr", serial=True, progress=False)
print(Counter(outcome.status for outcome in again.outcomes))

# %%
# Read it from anywhere
# ---------------------
# With the same variables set, a store has an address and no other difference. Training reads it in
# pieces (``cache="stream"``) or copies it once (``cache="memmap"``).

store = open_store("s3://lab/deap.zarr")
assert len(store) == 4
figure = store[0].plot(trial=0, seconds=4.0)

# %%
# What lies in the bucket: a few objects for each recording, so that listing stays cheap.

sizes = {
    name: sum(bucket.du(name, total=False).values()) / 1e6 for name in bucket.ls("lab/deap.zarr")
}
people = {Path(name).name: size for name, size in sizes.items() if "sub-" in name}
fig, ax = plt.subplots(figsize=(6, 2.4), layout="constrained")
ax.barh(list(people), list(people.values()), color="#0072B2")
ax.set(xlabel="MB", title="s3://lab/deap.zarr (simulated)")

# %%

server.stop()
temporary.cleanup()
plt.show()
