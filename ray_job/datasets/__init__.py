"""Store partitions as Ray Datasets: the only package that imports ray."""
