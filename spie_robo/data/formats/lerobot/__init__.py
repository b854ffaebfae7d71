"""LeRobot v3 data sets: numbers in parquet, camera frames in video."""
