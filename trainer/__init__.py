"""The one loop and its seams: data, model, objective, after-step; the DeepSpeed engine underneath."""
