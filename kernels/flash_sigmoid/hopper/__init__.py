"""The forward pass for Hopper's own instructions, in Gluon: tiles by bulk copies, products by whole warp groups."""
