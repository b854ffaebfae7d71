"""Data sets in object storage: ``s3://BUCKET/KEY`` as input and output, by way of local copies."""
