"""The model server: an Open Inference Protocol layer over ASGI, run as a task."""
