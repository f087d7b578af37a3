"""Files side by side: what each weighs, computes, takes and holds, measured in one run."""
