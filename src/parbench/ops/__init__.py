"""Pure tensor functions of token reduction; they know no model. All are batched and decide per sample."""
