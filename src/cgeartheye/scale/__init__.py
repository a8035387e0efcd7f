"""Maps by many processes and machines: Ray, or an array of jobs of Slurm or Kubernetes."""
