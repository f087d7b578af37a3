"""What the teacher cost: the store of a run, how well it keeps the teacher, and the plan beside what the run took.

``summary.json`` tells of it in two entries. Each key may be missing or None: what is not there is not shown ::

    "store": {
        "mode": "learned",          # filled during the first epochs | "built": before training | "read": was there before
        "path": "store",            # in the run folder, or as the recipe names it
        "samples": 1437,            # of the training split, N
        "views": 4,                 # of each sample, V
        "records": 5748,            # N · V
        "bytes": 137952,            # of all records
        "shards": 1,                # files of records (or a list of them)
        "record": {},               # Layout.to_dict(): kind, classes, members, top, temperatures, features, bytes
        "seconds": 3.1,             # that building took, or that the teacher took while it was learned
        "certificate": {
            "views": 1024,              # that the live teacher was asked about again
            "kl_mean": 1e-9,            # KL(live ‖ kept) in nats, mean over these views
            "kl_p99": 2e-8,             # their 99th percentile
            "agreement": 1.0,           # share of views whose largest logit is of the same class
            "bytes": 24,                # a view
            "beyond_mean": 0.01,        # top-K: probability of the classes beyond the K largest, mean
            "beyond_p99": 0.05,
            "bounds": {"kl_mean": 1e-5, "kl_p99": 1e-4, "agreement": 0.999}
        }
    },
    "plan": {                       # as limbeck.pipeline.planning.compared gives it
        "planned": {                # seconds of an epoch, by kind; bytes of the records
            "control": 1.0,             # of a training that asks no teacher
            "online": 9.0,              # of a student with the live teacher at every step
            "building": 9.1,            # of a student that fills the store (or of making one view beforehand)
            "stored": 1.02,             # of a student that reads it
            "bytes": 137952,
            "teacher": 32.0,            # seconds of the teacher in the whole run
            "total_online": 270.0,      # seconds of all trainings with the live teacher
            "total_stored": 62.0        # and with the store
        },
        "took": {},                 # the same keys, as far as the run knows
        "take": "store: auto",      # what the plan advised, and why
        "reason": "…"
    }
"""
