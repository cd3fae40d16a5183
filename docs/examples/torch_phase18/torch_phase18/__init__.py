"""MiniGPT trained with PyTorch: torch.optim.AdamW, LambdaLR, clip_grad_norm_; torch.Generator for all that is drawn.

It shares no code with `impl` and no random number with it. `python -m torch_phase18 --help` lists the verbs.
"""
