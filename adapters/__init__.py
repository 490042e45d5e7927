"""LoRA weights: key, record, store, bank, exact mixing."""

IS_BOLI = True  # another project publishes a package of this name; the rooms above check that they met this one
