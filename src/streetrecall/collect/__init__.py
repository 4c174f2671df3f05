"""What a person does before the pipeline runs: look into a folder, get a polygon, estimate the cost."""
