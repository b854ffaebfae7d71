"""Read and write data sets in object storage, ``s3://BUCKET/KEY``, through local copies."""
