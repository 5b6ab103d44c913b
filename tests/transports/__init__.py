"""How events leave: held responses, frames, draining."""
