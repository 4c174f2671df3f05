"""The table of commands: the module of each, and what it does in one sentence; and which of them can use a cluster."""

from __future__ import annotations

COMMANDS = {
    "fingerprint": ("streetrecall.stages.fingerprint", "stage: notice changes in a collection on this machine"),
    "grid": ("streetrecall.stages.grid", "stage: lay a grid of points over the city's polygon"),
    "metadata": ("streetrecall.stages.metadata", "stage: ask the provider where panoramas exist"),
    "order": ("streetrecall.stages.order", "stage: pick places by levels of shrinking radius, and split them"),
    "scrape": ("streetrecall.stages.scrape", "stage: capture every date of every place in all directions"),
    "crop": ("streetrecall.stages.crop", "stage: crop and resize captures, put bad pictures into quarantine"),
    "views": ("streetrecall.stages.views", "stage: cut views of any direction from the captures"),
    "photos": ("streetrecall.stages.photos", "stage: take photos as people do, as queries"),
    "baseline": ("streetrecall.stages.baseline", "stage: describe pictures by HOG, without training"),
    "sift_vlad": ("streetrecall.stages.sift_vlad", "stage: describe pictures and photos by SIFT and VLAD"),
    "networks": ("streetrecall.stages.networks", "stage: describe pictures and photos by networks of others"),
    "train": ("streetrecall.stages.train", "stage: train the embedder"),
    "index": ("streetrecall.stages.index", "stage: describe all pictures and index the gallery"),
    "evaluate": ("streetrecall.stages.evaluate", "stage: measure recall, error and calibration"),
    "bundle": ("streetrecall.stages.bundle", "stage: write all that answers a photo elsewhere to one folder"),
    "locate": ("streetrecall.serve.locate", "where was this photo taken? Answers photos from a bundle"),
    "export": ("streetrecall.bundle.export", "pairs and descriptors of a bundle, for hloc and others"),
    "check": ("streetrecall.stages.check", "stage: validate a table by its Great Expectations suite"),
    "import": ("streetrecall.collect.folder", "what is in a folder of pictures, and what is left out and why"),
    "polygon": ("streetrecall.collect.polygon", "the outline of a city by its name, from OpenStreetMap"),
    "streets": ("streetrecall.collect.streets", "the streets of the city, for a grid along them"),
    "estimate": (
        "streetrecall.collect.estimate",
        "requests, bytes, hours, money and disk of each stage, before it runs",
    ),
    "summary": ("streetrecall.review.summary", "print the last evaluation, model beside baselines"),
    "compare": ("streetrecall.review.compare", "is one revision better than another? A paired bootstrap over places"),
    "plots": ("streetrecall.figures.plots", "draw the plots of the last run, and one page that shows them"),
    "docs": ("streetrecall.expectations.docs", "build the Data Docs of the checks, HTML to read offline"),
    "set": ("streetrecall.params.edit", "change values of params.yaml and keep its comments"),
    "sweep": ("streetrecall.review.sweep", "run a grid of experiments and compare them"),
    "report": ("streetrecall.review.report", "what a change did: staleness, metrics, parameters, data, checks, plots"),
    "stale": ("streetrecall.review.staleness", "does dvc.lock agree with the code, the parameters and the metrics?"),
    "dependencies": (
        "streetrecall.review.dependencies",
        "does each stage of dvc.yaml depend on the code that it reaches?",
    ),
    "uploads": ("streetrecall.review.uploads", "list or abort uploads that interrupted pushes left in the S3 remote"),
    "scrape-status": ("streetrecall.store.status", "what the store holds, what failed and why, progress of the run"),
    "serve": ("streetrecall.serve.command", "serve the web page and API: ask with photos, explore the results"),
    "serve-city": ("streetrecall.simulator.service.server", "run the street-view service of the simulated city"),
    "bench": ("streetrecall.benchmarks.command", "measure the speed of this project on this machine"),
}

# Those whose work, item by item, can be done by a Dask cluster (`streetrecall.cluster`).
CLUSTERED = ("metadata", "scrape", "crop", "views", "baseline", "index", "evaluate", "bundle")
