"""Pure tensor functions of token reduction, independent of any model. All are batched; each sample is treated independently."""
