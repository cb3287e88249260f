"""One function a pipeline stage: files in, files out. Laptop runs and pipeline components call the same ones."""
